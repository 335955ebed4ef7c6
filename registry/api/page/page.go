// Package page is the web page at the root of the API: files that are a part of the program, with
// the headers that a browser needs to keep everything else away from them.
//
// It owns the files and their headers. It must not know any pool: the page reads the API, as its
// caller.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
)

//go:embed files
var embedded embed.FS

// Policy is the Content-Security-Policy of the page: nothing but its own files and the API, no
// script or style in the HTML itself, no frame, no form, and no text that becomes HTML by script.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// Index is the file at the root of the API. The others are below /page/.
const Index = "index.html"

// File is one file of the page.
type File struct {
	kind string // its media type
	body []byte
	tag  string // its ETag
}

// Files are the files of the page by name.
type Files map[string]*File

// Load returns the files of the page.
func Load() (Files, error) {
	entries, err := fs.ReadDir(embedded, "files")
	if err != nil {
		return nil, fmt.Errorf("files of the web page: %w", err)
	}
	all := make(Files, len(entries))
	for _, e := range entries {
		body, err := fs.ReadFile(embedded, path.Join("files", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("files of the web page: %w", err)
		}
		kind := kinds()[path.Ext(e.Name())]
		if kind == "" {
			return nil, fmt.Errorf("files of the web page: %s has no media type", e.Name())
		}
		sum := sha256.Sum256(body)
		all[e.Name()] = &File{kind: kind, body: body, tag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
	}
	return all, nil
}

// kinds are the media types by a file's ending. They do not depend on files of the host.
func kinds() map[string]string {
	return map[string]string{".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
		".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}
}

// Tag is the file's ETag.
func (f *File) Tag() string { return f.tag }

// Serve answers with the file, or with 304 to a browser that has it.
func (f *File) Serve(w http.ResponseWriter, known bool) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cache-Control", "no-cache") // asked for again each time, by its tag
	h.Set("ETag", f.tag)
	if known {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.kind)
	h.Set("Content-Length", strconv.Itoa(len(f.body)))
	_, _ = w.Write(f.body) // the caller is gone if this fails
}
