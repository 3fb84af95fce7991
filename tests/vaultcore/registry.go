package main

import (
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// registry tells the core which engines are built in. Vault's own list would
// bring every plugin there is.
type registry struct{}

func engines(kind consts.PluginType) map[string]logical.Factory {
	switch kind {
	case consts.PluginTypeSecrets:
		return secrets
	case consts.PluginTypeCredential:
		return logins
	}
	return nil
}

// Contains implements vault.BuiltinRegistry.
func (registry) Contains(name string, kind consts.PluginType) bool {
	return engines(kind)[name] != nil
}

// Get implements vault.BuiltinRegistry.
func (registry) Get(name string, kind consts.PluginType) (func() (interface{}, error), bool) {
	factory := engines(kind)[name]
	return func() (interface{}, error) { return factory, nil }, factory != nil
}

// Keys implements vault.BuiltinRegistry.
func (registry) Keys(kind consts.PluginType) []string {
	return slices.Sorted(maps.Keys(engines(kind)))
}

// DeprecationStatus implements vault.BuiltinRegistry.
func (r registry) DeprecationStatus(name string, kind consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, kind)
}
