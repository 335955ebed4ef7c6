// Package docs is the project's documentation, of which the daemon serves a part, and poolctl
// prints another. It owns no code.
package docs

import _ "embed" // for the documents below

// OpenAPI describes the HTTP API.
//
//go:embed openapi.yaml
var OpenAPI string

// Failures has what each code of an error means.
//
//go:embed failures.md
var Failures string
