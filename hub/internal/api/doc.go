// Package api is the REST interface of the hub: routes, authentication, input
// checks and error answers. It owns the wire format of /api; what is behind a
// route it reaches through small interfaces, and it knows no queue, no tunnel
// and no key. Tenant and rights come from the token only.
package api
