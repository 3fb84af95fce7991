// Package client talks to the REST API of a hub: addresses, tokens, pinned
// authorities, profiles, problems and event streams. It knows the wire format
// of /api/v1; it knows nothing of how the hub does its work.
package client
