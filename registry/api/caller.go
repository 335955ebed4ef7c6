package api

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// caller is the sender of a request. Its name and the reason of a refusal are built only when used:
// most requests are reads, which are neither logged nor refused.
type caller struct {
	kind callerKind
	may  access
	uid  uint32  // of callerUser
	sum  [3]byte // of callerToken and callerBadToken: the first bytes of the token's SHA-256
	with *token  // of callerToken
}

// callerKind is how a caller was identified.
type callerKind int

const (
	callerAnonymous callerKind = iota // TCP, without a token
	callerUser                        // the unix socket
	callerUnknown                     // the unix socket, without credentials from the kernel
	callerToken                       // TCP, with the right token
	callerBadToken                    // TCP, with a wrong one
	callerLocal                       // TCP from this host, where no token is needed
	callerUnseen                      // as callerLocal, but its process is not known
	callerEngine                      // TCP, from an engine of this host, or a download for one
)

// identify returns the caller of the request and its access.
//
//	where from                        identity      may
//	unix: root, group pool-managerd   uid:N         everything
//	unix: may read the journal        uid:N         read, with details
//	unix: any other user              uid:N         read
//	TCP, an engine of this host       engine        nothing: 403 FORBIDDEN
//	TCP, a right token                token:<6 hex> its scope, for its pools
//	TCP, a wrong token                token:<6 hex> nothing: 401 BAD_TOKEN
//	loopback, auth_optional           localhost     everything
//	the same, process not known       anonymous     nothing: 401 MISSING_TOKEN
//	TCP, no token                     anonymous     nothing: 401 MISSING_TOKEN
func (g *gate) identify(r *http.Request, from *connection) caller {
	if from.local {
		return g.local(&from.peer)
	}
	if from.tcp.engine {
		return caller{kind: callerEngine, may: accessRefused}
	}
	if given, ok := bearer(r); ok {
		sum := sha256.Sum256([]byte(given))
		c := caller{kind: callerBadToken, sum: [3]byte(sum[:3])}
		if t := g.tokens.find(sum); t != nil {
			c.kind, c.may, c.with = callerToken, t.may, t
		}
		return c
	}
	if !g.settings.AuthOptional || !g.fromThisHost(r) {
		return caller{kind: callerAnonymous}
	}
	if !from.tcp.known {
		return caller{kind: callerUnseen}
	}
	return caller{kind: callerLocal, may: accessWrite}
}

func (g *gate) local(p *peer) caller {
	switch {
	case p.err != nil:
		return caller{kind: callerUnknown}
	case p.uid == 0 || p.in(g.group):
		return caller{kind: callerUser, uid: p.uid, may: accessWrite}
	case slices.ContainsFunc(g.readers, p.in):
		return caller{kind: callerUser, uid: p.uid, may: accessDetails}
	}
	return caller{kind: callerUser, uid: p.uid, may: accessRead}
}

// localAccount returns what a connection over the unix socket counts for.
func (g *gate) localAccount(p *peer) account {
	if p.err != nil {
		return account{}
	}
	return account{kind: accountUser, uid: p.uid, privileged: p.uid == 0 || p.in(g.group)}
}

// anonymous reports whether the caller has no access of its own: its connection is closed after the
// answer.
func (c caller) anonymous() bool { return c.may < accessRead }

// identity is the caller's name in logs.
func (c caller) identity() string {
	switch c.kind {
	case callerUser:
		return fmt.Sprintf("uid:%d", c.uid)
	case callerUnknown:
		return "uid:unknown"
	case callerToken, callerBadToken:
		return "token:" + hex.EncodeToString(c.sum[:])
	case callerLocal:
		return "localhost"
	case callerEngine:
		return "engine"
	}
	return "anonymous"
}

// tokenName is the name of the caller's token; empty for any other caller.
func (c caller) tokenName() string {
	if c.with == nil {
		return ""
	}
	return c.with.name
}

// pools are the only ones that the caller may ask about; nil: all.
func (c caller) pools() []string {
	if c.with == nil {
		return nil
	}
	return c.with.pools
}

// denied returns the error for a caller without the required access.
func (c caller) denied(needs access) *Error {
	switch c.kind {
	case callerUser:
		if needs == accessDetails {
			return forbidden(fmt.Sprintf("user id %d may not read the unit of an engine, which has its environment",
				c.uid),
				"Call as root, or as a member of one of the groups "+Group+", "+strings.Join(journalGroups(), ", ")+".")
		}
		return forbidden(fmt.Sprintf("user id %d has read access only", c.uid),
			"Call as root, or as a member of the group "+Group+" (usermod -aG "+Group+" USER, then log in again).")
	case callerUnknown:
		return forbidden("the kernel did not report the caller's credentials", "")
	case callerEngine:
		return forbidden("engines, and downloads for them, may not call the API",
			"A program that manages pools runs outside of pool-engines.slice and pool-fetch.slice.")
	case callerToken:
		return forbidden("this token may read only", "Use a token with scope=write in auth_token_file.")
	case callerBadToken:
		return unauthorized(40102, "BAD_TOKEN", "the bearer token is wrong")
	case callerUnseen:
		return unauthorized(40101, "MISSING_TOKEN",
			"a bearer token is required, since the process that sent the request "+
				"is not known")
	}
	return unauthorized(40101, "MISSING_TOKEN", "a bearer token is required")
}

// DenialReasons are the reasons with which requests are denied, for a metric's label.
func DenialReasons() []string {
	return []string{"missing_token", "bad_token", "forbidden", "engine", "origin"}
}

// reason is why a caller is denied, as a metric's label.
func (c caller) reason() string {
	switch c.kind {
	case callerEngine:
		return "engine"
	case callerBadToken:
		return "bad_token"
	case callerUser, callerUnknown, callerToken:
		return "forbidden"
	}
	return "missing_token"
}

func forbidden(message, hint string) *Error {
	return problem(http.StatusForbidden, "FORBIDDEN", message, hint)
}

// unauthorized has the code as a number too, for clients that compare numbers.
func unauthorized(number int, code, message string) *Error {
	e := problem(http.StatusUnauthorized, code, message,
		"Send Authorization: Bearer TOKEN with the content of auth_token_file, or use the unix socket; auth_optional "+
			"= true in config.toml admits local callers without a token.")
	e.Body.Details = map[string]any{"auth_code": number}
	return e
}
