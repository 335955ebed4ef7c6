// Command sbom writes the software bill of materials of some programs as SPDX 2.3 in JSON, for the
// package: which modules in which versions are linked in, as the programs themselves say.
//
//	sbom NAME VERSION PROGRAM… >sbom.spdx.json
//
// It owns the document's form. It must not know what builds the programs: it reads what the linker
// wrote into them (debug/buildinfo), of any architecture. The same programs make the same bytes, at
// the time of SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch).
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom NAME VERSION PROGRAM… >sbom.spdx.json")
		os.Exit(2)
	}
	if err := run(os.Stdout, os.Args[1], os.Args[2], os.Args[3:], os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// run writes the document of the programs to w.
func run(w io.Writer, name, version string, files []string, epoch string) error {
	at, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	programs := make([]program, 0, len(files))
	for _, file := range files {
		p, err := read(file)
		if err != nil {
			return err
		}
		programs = append(programs, p)
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	return out.Encode(describe(name, version, time.Unix(at, 0).UTC(), programs))
}

// program is what one executable file says of itself.
type program struct {
	name   string // of the file
	digest string // SHA-256 of its bytes, in hexadecimal
	info   *buildinfo.BuildInfo
}

// read reads one executable file.
func read(path string) (p program, err error) {
	f, err := os.Open(path)
	if err != nil {
		return p, err
	}
	defer f.Close()
	if p.info, err = buildinfo.Read(f); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<40)); err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	p.name, p.digest = filepath.Base(path), hex.EncodeToString(h.Sum(nil))
	return p, nil
}
