package api

import (
	"io"
	"net/http"

	"github.com/pool-managerd/pool-managerd/docs"
)

// lists is the beginning of hints that refer a caller to the description of the API.
const lists = "GET /openapi.yaml lists "

// getDescription answers with the API description of this version. Its media type is that of RFC
// 9512.
func (s *Server) getDescription(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml")
	_, err := io.WriteString(w, docs.OpenAPI)
	return err
}
