package main

import (
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/test/hub"
)

// others are further sources of the same files: the bucket "models" of an object store, and a
// registry with an artefact of each, as "ai/tiny:v1" of tiny.gguf.
type others struct {
	store    string // address to listen at; "": none
	keys     string // ACCESS:SECRET
	registry *hub.Registry
}

func (o *others) flags() {
	o.registry = hub.NewRegistry()
	flag.StringVar(&o.store, "s3", "", "address of an object store")
	flag.StringVar(&o.keys, "keys", "", "ACCESS:SECRET that requests to it are signed with")
	flag.StringVar(&o.registry.Base, "registry", "", "URL of a registry, as clients name it")
	flag.StringVar(&o.registry.Realm, "realm", "", "URL of the host that hands out its tokens")
	flag.StringVar(&o.registry.CDN, "blobs", "", "URL of the host of its blobs")
	flag.StringVar(&o.registry.Auth, "login", "", "USER:PASSWORD that a token takes")
}

// serve serves what the flags ask for, on the loopback.
func (o *others) serve(dir string, ended chan<- error) error {
	if o.store == "" && o.registry.Base == "" {
		return nil
	}
	files, err := read(dir)
	if err != nil {
		return err
	}
	if o.store != "" {
		s := &hub.Store{Bucket: "models", Region: "us-east-1", Objects: files}
		s.Access, s.Secret, _ = strings.Cut(o.keys, ":")
		if err := listen(o.store, s, ended); err != nil {
			return err
		}
	}
	if o.registry.Base == "" {
		return nil
	}
	for name, data := range files {
		repo := "ai/" + strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
		if err := o.registry.Model(repo, "v1", map[string][]byte{filepath.Base(name): data}); err != nil {
			return err
		}
	}
	served := map[string]http.Handler{o.registry.Base: o.registry}
	if o.registry.Realm != "" {
		served[o.registry.Realm] = o.registry
	}
	if o.registry.CDN != "" {
		served[o.registry.CDN] = o.registry.CDNHandler()
	}
	for at, handler := range served {
		u, err := url.Parse(at)
		if err != nil {
			return err
		}
		if err := listen(net.JoinHostPort("127.0.0.1", u.Port()), handler, ended); err != nil {
			return err
		}
	}
	return nil
}

func listen(address string, handler http.Handler, ended chan<- error) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	go func() { ended <- hub.Server(handler).Serve(l) }()
	return nil
}

// read returns the files of a directory, by their paths in it.
func read(dir string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the files: %w", err)
	}
	return files, nil
}
