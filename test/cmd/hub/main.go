// Command hub serves a directory as a repository of an imitated hub, with faults: for tests of
// machines, where it runs beside an engine. The same files can be a bucket and an artefact.
//
//	hub -dir /srv/models -repo org/name -listen 127.0.0.1:8080 -cdn http://cdn.test:8081 -fault 'cdn:cut=1000000*3' \
//	    -s3 127.0.0.1:8082 -keys AKIA:secret -registry http://registry.localhost:8083 -blobs http://blobs.test:8084
//
// With -images it serves container images instead.
//
//	hub -images 127.0.0.1:5000 -image acme/llama:1=/srv/images/1
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/test/hub"
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	dir := flag.String("dir", "", "directory whose files are served")
	repo := hub.Repo{}
	flag.StringVar(&repo.Name, "repo", "org/name", "name of the repository")
	flag.StringVar(&repo.Token, "token", "", "token that readers need")
	flag.BoolVar(&repo.Gated, "gated", false, "no reader was accepted yet")
	listen := flag.String("listen", "127.0.0.1:8080", "address of the hub")
	endpoint := flag.String("endpoint", "", "URL of the hub, as clients name it (http://LISTEN)")
	cdn := flag.String("cdn", "http://127.0.0.1:8081", "URL of the host of large files, as clients name it")
	logs := flag.Bool("log", false, "print each request of the hub, with its range")
	lfs := flag.Int64("lfs", 1<<20, "bytes from which a file is a large one")
	var faults []*hub.Fault
	flag.Func("fault", "PLACE:KIND[=N][*TIMES][@TO]; may be repeated", func(text string) error {
		f, err := hub.ParseFault(text)
		faults = append(faults, f)
		return err
	})
	var also others
	also.flags()
	images := flag.String("images", "", "address of a registry of container images, which is then all that is served")
	rate := flag.Int("slow", 0, "bytes a second of that registry, 0: no limit")
	named := make(map[string]string)
	flag.Func("image", "NAME:TAG=DIRECTORY of its layers; may be repeated", func(text string) error {
		name, dir, _ := strings.Cut(text, "=")
		named[name] = dir
		return nil
	})
	flag.Parse()
	if *images != "" {
		return serveImages(*images, named, *rate)
	}
	if err := add(&repo, *dir, *lfs); err != nil {
		return err
	}
	h, err := hub.New(&repo)
	if err != nil {
		return err
	}
	h.Add(faults...)
	h.Endpoint, h.CDN = *endpoint, *cdn
	if *logs {
		h.Log = func(request string) { fmt.Println(request) }
	}
	if h.Endpoint == "" {
		h.Endpoint = "http://" + *listen
	}
	other, err := url.Parse(*cdn)
	if err != nil {
		return err
	}
	first, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(*listen)
	if err != nil {
		return err
	}
	second, err := net.Listen("tcp", net.JoinHostPort(host, other.Port()))
	if err != nil {
		return err
	}
	fmt.Println(h.Endpoint, repo.Name, repo.Commit)
	ended := make(chan error, 8)
	if err := also.serve(*dir, ended); err != nil {
		return err
	}
	go func() { ended <- hub.Server(h.Handler()).Serve(first) }()
	go func() { ended <- hub.Server(h.CDNHandler()).Serve(second) }()
	return <-ended
}

func serveImages(address string, named map[string]string, rate int) error {
	registry := hub.NewRegistry()
	for name, dir := range named {
		digest, err := registry.Image(name, dir)
		if err != nil {
			return err
		}
		fmt.Println(name, digest)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if rate > 0 {
		return hub.Server(hub.Slowly(registry, rate)).Serve(listener)
	}
	return hub.Server(registry).Serve(listener)
}

// add adds all files of a directory.
func add(repo *hub.Repo, dir string, lfs int64) error {
	if dir == "" {
		return errors.New("-dir is missing")
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path) // open as long as it is served
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		repo.Files = append(repo.Files, hub.File{Path: name, Size: info.Size(), LFS: info.Size() >= lfs,
			Open: func() io.ReadSeeker { return io.NewSectionReader(f, 0, info.Size()) }})
		return nil
	})
}
