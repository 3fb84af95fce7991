// Command vaultcore runs a real Vault core for tests: its barrier, policies,
// tokens, AppRole, KV v2 and transit, kept in files, behind Vault's own HTTP
// handler on loopback. It lives in a module of its own so that the 400 modules of
// Vault stay out of Ropeway's; only tests/testenv builds and starts it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	kv "github.com/hashicorp/vault-plugin-secrets-kv"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/logical/transit"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/vault"
)

func main() {
	data := flag.String("data", "", "folder of the storage")
	listen := flag.String("listen", "127.0.0.1:0", "address on loopback")
	certificate := flag.String("certificate", "", "PEM file")
	key := flag.String("key", "", "PEM file")
	flag.Parse()
	if err := run(*data, *listen, *certificate, *key); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(data, listen, certificate, key string) error {
	if host, _, err := net.SplitHostPort(listen); err != nil || !net.ParseIP(host).IsLoopback() {
		return errors.New("listen on loopback only: this is no server for real secrets")
	}
	core, err := open(data, "https://"+listen)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core}),
		ReadHeaderTimeout: 5 * time.Second,
	}
	return server.ServeTLS(l, certificate, key)
}

func open(data, address string) (*vault.Core, error) {
	log := hclog.New(&hclog.LoggerOptions{Name: "vault", Level: hclog.Info, Output: os.Stderr})
	storage, err := file.NewFileBackend(map[string]string{"path": data}, log.Named("storage"))
	if err != nil {
		return nil, err
	}
	return vault.NewCore(&vault.CoreConfig{
		Physical: storage, StorageType: "file", Logger: log, RedirectAddr: address,
		DisableMlock: true, DisableCache: true,
		DefaultLeaseTTL: time.Hour, MaxLeaseTTL: 24 * time.Hour,
		LogicalBackends:    secrets,
		CredentialBackends: logins,
		BuiltinRegistry:    registry{},
	})
}

var (
	secrets = map[string]logical.Factory{"kv": kv.Factory, "transit": transit.Factory}
	logins  = map[string]logical.Factory{"approle": approle.Factory, "kubernetes": kubernetes.Factory}
)
