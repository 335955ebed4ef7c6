package api

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// queries are the parameters that routes take in the query, by method and path. A route that is
// not here takes none.
var queries = map[string][]string{
	"GET /v1/events":              {"pool", "kind", "replay", "follow"},
	"POST /v1/pools/{id}/drain":   {waitParameter},
	"POST /v1/pools/{id}/resume":  {waitParameter},
	"POST /v1/pools/{id}/restart": {waitParameter},
	"POST /v1/pools/{id}/reset":   {waitParameter},
	"POST /v1/pools/{id}/reload":  {waitParameter},
	"POST /v1/pools/{id}/bench":   {waitParameter},
	"DELETE /v1/pools/{id}":       {waitParameter},
	"POST /v1/downloads":          {waitParameter},
}

// handler serves a route.
type handler = func(w http.ResponseWriter, r *http.Request) error

// strictly refuses a query with a parameter that the route does not take: one that is spelled
// wrong would have no effect, and its caller would not know.
func strictly(takes []string, serve handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.RawQuery != "" {
			if err := checkQuery(r.URL.RawQuery, takes); err != nil {
				return err
			}
		}
		return serve(w, r)
	}
}

func checkQuery(query string, takes []string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return invalidParams("the query cannot be read", "Write it as a=b&c=d, each part escaped.")
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !slices.Contains(takes, name):
			return invalidParams(fmt.Sprintf("unknown parameter %.40q in the query", name), takesOnly(takes))
		case len(values[name]) > 1:
			return invalidParams(fmt.Sprintf("the parameter %.40q is there twice", name), "Send it once.")
		}
	}
	return nil
}

// takesOnly is the hint of an unknown parameter.
func takesOnly(takes []string) string {
	if len(takes) == 0 {
		return "This path takes no parameters in the query; " + lists + "those of each path."
	}
	return "This path takes " + strings.Join(takes, ", ") + "; " + lists + "those of each path."
}
