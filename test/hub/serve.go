package hub

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Handler serves the hub.
func (h *Hub) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.note(r)
		w.Header().Set("Ratelimit", `"api";r=400;t=55`)
		parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		for i := range parts {
			parts[i], _ = url.PathUnescape(parts[i]) // was parsed before
		}
		switch {
		case len(parts) == 6 && parts[0] == "api" && parts[4] == "revision":
			h.serve(w, r, Revision, parts[2]+"/"+parts[3], parts[5], "")
		case len(parts) == 6 && parts[0] == "api" && parts[4] == "tree":
			h.serve(w, r, Tree, parts[2]+"/"+parts[3], parts[5], "")
		case len(parts) >= 5 && parts[2] == "resolve":
			h.serve(w, r, Resolve, parts[0]+"/"+parts[1], parts[3], strings.Join(parts[4:], "/"))
		default:
			http.NotFound(w, r)
		}
	})
}

// refuse answers with one of the hub's errors.
func refuse(w http.ResponseWriter, status int, code, message string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", message)
	http.Error(w, message, status)
}

func (h *Hub) serve(w http.ResponseWriter, r *http.Request, on Place, repo, revision, file string) {
	var of *Repo
	for _, have := range h.repos {
		if have.Renamed == repo && repo != "" {
			to := strings.Replace(r.URL.RequestURI(), repo, have.Name, 1)
			http.Redirect(w, r, to, http.StatusTemporaryRedirect)
			return
		}
		if have.Name == repo {
			of = have
		}
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case of == nil || of.Token != "" && token == "":
		refuse(w, http.StatusUnauthorized, "RepoNotFound", "Repository not found")
		return
	case of.Token != "" && token != of.Token:
		refuse(w, http.StatusUnauthorized, "", "Invalid credentials in Authorization header")
		return
	case of.Gated && on == Resolve:
		refuse(w, http.StatusForbidden, "GatedRepo", "Access to this resource is restricted")
		return
	case revision != of.Commit && !slices.Contains(of.Branches, revision):
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+revision)
		return
	}
	if h.fails(w, r, on, file) {
		return
	}
	switch on {
	case Revision:
		answer(w, map[string]any{"id": of.Name, "sha": of.Commit, "siblings": []any{}})
	case Tree:
		h.tree(w, r, of)
	default:
		h.resolve(w, r, of, file)
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone
}

// tree lists files, a page at a time.
func (h *Hub) tree(w http.ResponseWriter, r *http.Request, of *Repo) {
	first, _ := strconv.Atoi(r.URL.Query().Get("cursor")) // 0 on the first page
	files := of.Files[min(first, len(of.Files)):]
	if h.PageSize > 0 && len(files) > h.PageSize {
		files = files[:h.PageSize]
		q := r.URL.Query()
		q.Set("cursor", strconv.Itoa(first+h.PageSize))
		w.Header().Set("Link", fmt.Sprintf("<%s%s?%s>; rel=\"next\"", h.Endpoint, r.URL.Path, q.Encode()))
	}
	list := []map[string]any{{"type": "directory", "path": "dir", "oid": of.Commit, "size": 0}}
	for _, f := range files {
		e := map[string]any{"type": "file", "path": f.Path, "size": f.Size, "oid": f.oid}
		if f.LFS {
			e["lfs"] = map[string]any{"oid": f.id, "size": f.Size, "pointerSize": 134}
		}
		if f.Xet != "" {
			e["xetHash"] = f.Xet
		}
		list = append(list, e)
	}
	answer(w, list)
}

// resolve answers about a file, or with it: a large one is elsewhere.
func (h *Hub) resolve(w http.ResponseWriter, r *http.Request, of *Repo, name string) {
	i := slices.IndexFunc(of.Files, func(f File) bool { return f.Path == name })
	if i < 0 {
		refuse(w, http.StatusNotFound, "EntryNotFound", "Entry not found")
		return
	}
	f := of.Files[i]
	w.Header().Set("X-Repo-Commit", of.Commit)
	w.Header().Set("ETag", `"`+f.id+`"`)
	if !f.LFS {
		http.ServeContent(w, r, "", time.Time{}, f.Open())
		return
	}
	w.Header().Set("X-Linked-Etag", `"`+f.id+`"`)
	w.Header().Set("X-Linked-Size", strconv.FormatInt(f.Size, 10))
	h.distort(w, name)
	http.Redirect(w, r, h.sign(f.id), http.StatusFound)
}

// sign makes an address on the other host that is good for a while.
func (h *Hub) sign(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.faults {
		if f.Kind == OtherHost && f.use() {
			return f.To + "/" + id
		}
	}
	return fmt.Sprintf("%s/%s?X-Amz-Signature=%d", h.CDN, id, h.signing)
}

// CDNHandler serves the other host.
func (h *Hub) CDNHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.note(r)
		h.mu.Lock()
		if r.Header.Get("Authorization") != "" {
			h.leaks = append(h.leaks, r.Method+" "+r.URL.Path)
		}
		good := r.URL.Query().Get("X-Amz-Signature") == strconv.Itoa(h.signing)
		h.mu.Unlock()
		if !good {
			http.Error(w, "Request has expired", http.StatusForbidden)
			return
		}
		for _, repo := range h.repos {
			for _, f := range repo.Files {
				if f.LFS && r.URL.Path == "/"+f.id {
					if !h.fails(w, r, CDN, f.Path) {
						w.Header().Set("ETag", `"`+f.id[:32]+`"`)
						http.ServeContent(w, r, "", time.Time{}, h.corrupted(f))
					}
					return
				}
			}
		}
		http.NotFound(w, r)
	})
}
