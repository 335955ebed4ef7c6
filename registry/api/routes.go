package api

import (
	"net/http"

	"github.com/pool-managerd/pool-managerd/registry/api/page"
)

// route is one row of the routing table. A GET route answers HEAD too.
type route struct {
	method string
	path   string // as http.ServeMux takes it
	needs  access
	serve  func(w http.ResponseWriter, r *http.Request) error
}

// aliases are the paths that existing clients use for a /v1/ route, by that route's path.
var aliases = map[string][]string{
	"/health":                {"/ready"},
	"/v1/capabilities":       {"/v2/meta/capabilities"},
	"/v1/version":            {"/v2/meta/version"},
	"/v1/pools/{id}/status":  {"/pools/{id}/status", "/v2/pools/{id}/status"},
	"/v1/pools/{id}/drain":   {"/pools/{id}/drain", "/v2/pools/{id}/drain"},
	"/v1/pools/{id}/reload":  {"/pools/{id}/reload", "/v2/pools/{id}/reload"},
	"/v1/pools/{id}/preload": {"/pools/{id}/preload", "/v2/pools/{id}/preload"},
	"/v1/pools/{id}":         {"/pools/{id}", "/v2/pools/{id}"},
}

// table returns the routes of the server, without aliases and without those of missing parts.
func (s *Server) table(metrics http.Handler) []route {
	routes := []route{
		{http.MethodGet, "/health", accessNone, s.getHealth},
		{http.MethodGet, "/v1/version", accessRead, s.getVersion},
		{http.MethodGet, "/v1/access", accessRead, s.getAccess},
		{http.MethodGet, "/v1/capabilities", accessRead, s.getCapabilities},
		{http.MethodGet, "/v1/pools", accessRead, s.getPools},
		{http.MethodGet, "/v1/pools/{id}", accessRead, s.getPool},
		{http.MethodGet, "/v1/pools/{id}/health", accessRead, s.getPoolHealth},
		{http.MethodGet, "/v1/pools/{id}/unit", accessDetails, s.getPoolUnit},
		{http.MethodGet, "/v1/pools/{id}/status", accessRead, s.getPoolStatus},
		{http.MethodPost, "/v1/pools/{id}/status", accessRead, s.postPoolStatus},
		{http.MethodGet, "/v1/usage", accessRead, s.getUsage},
		{http.MethodGet, "/v1/devices", accessRead, s.getDevices},
		{http.MethodGet, "/v1/events", accessRead, s.getEvents},
		{http.MethodGet, "/openapi.yaml", accessRead, s.getDescription},
	}
	if s.operator != nil {
		routes = append(routes, s.operatorRoutes()...)
	}
	if s.library != nil {
		routes = append(routes, s.downloadRoutes()...)
		routes = append(routes, s.artifactRoutes()...)
	}
	if s.history != nil {
		routes = append(routes, route{http.MethodGet, "/v1/pools/{id}/history", accessRead, s.getHistory})
	}
	if s.bench != nil {
		routes = append(routes, s.benchRoutes()...)
	}
	if s.fleet != nil {
		routes = append(routes, s.fleetRoutes()...)
	}
	if s.leases != nil {
		routes = append(routes, s.leaseRoutes()...)
	}
	if metrics != nil {
		routes = append(routes, route{http.MethodGet, "/metrics", accessRead,
			func(w http.ResponseWriter, r *http.Request) error { metrics.ServeHTTP(w, r); return nil }})
	}
	return routes
}

// pageRoutes are those of the web page. Its files say nothing of this host and need no token: the
// page asks for one.
func pageRoutes(files page.Files) []route {
	return []route{
		{http.MethodGet, "/{$}", accessNone, func(w http.ResponseWriter, r *http.Request) error {
			return servePage(files, page.Index, w, r)
		}},
		{http.MethodGet, "/page/{file}", accessNone, func(w http.ResponseWriter, r *http.Request) error {
			return servePage(files, r.PathValue("file"), w, r)
		}},
	}
}

func servePage(files page.Files, name string, w http.ResponseWriter, r *http.Request) error {
	f := files[name]
	if f == nil {
		return noSuchRoute()
	}
	f.Serve(w, knows(r, f.Tag()))
	return nil
}

// addRoutes adds every route of the table and its aliases, and those of the web page, to the mux.
func (s *Server) addRoutes(metrics http.Handler, files page.Files) {
	s.routes = pageRoutes(files)
	for _, rt := range s.routes {
		s.mux.Handle(rt.method+" "+rt.path, s.guarded(rt.needs, rt.serve))
	}
	for _, rt := range s.table(metrics) {
		name := rt.method + " " + rt.path
		rt.serve = strictly(queries[name], rt.serve)
		for _, path := range append([]string{rt.path}, aliases[rt.path]...) {
			s.routes = append(s.routes, route{rt.method, path, rt.needs, rt.serve})
			s.mux.Handle(rt.method+" "+path, auditing(changes[name], s.guarded(rt.needs, rt.serve)))
		}
	}
}
