// Package docs is the project's documentation, of which the daemon serves a part. It owns no code.
package docs

import _ "embed" // for the documents below

// OpenAPI describes the HTTP API.
//
//go:embed openapi.yaml
var OpenAPI string
