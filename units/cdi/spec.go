package cdi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
)

// spec is a file (CDI specification, "CDI JSON Specification"), as far as it is used. Keys that are
// not known are those of later versions.
type spec struct {
	Version string         `json:"cdiVersion"`
	Kind    string         `json:"kind"`
	Devices []device       `json:"devices"`
	Edits   containerEdits `json:"containerEdits"`

	path string
}

type device struct {
	Name  string         `json:"name"`
	Edits containerEdits `json:"containerEdits"`
}

type containerEdits struct {
	Env    []string `json:"env"`
	Mounts []struct {
		Host   string `json:"hostPath"`
		Inside string `json:"containerPath"`
	} `json:"mounts"`
	Hooks []struct {
		Args []string `json:"args"`
	} `json:"hooks"`
}

var versionForm = regexp.MustCompile(`^(0\.[3-9]|1)\.[0-9]+(\.[0-9]+)?$`)

// parse reads a file. Of other kinds only the kind is looked at.
func parse(data []byte) (spec, error) {
	var s spec
	in := json.NewDecoder(bytes.NewReader(data))
	if err := in.Decode(&s); err != nil {
		var kind struct {
			Kind string `json:"kind"`
		}
		if json.Unmarshal(data, &kind) == nil && kind.Kind != Kind {
			return spec{Kind: kind.Kind}, nil
		}
		return spec{}, fmt.Errorf("it is no description of devices: %w", err)
	}
	if s.Kind != Kind {
		return spec{Kind: s.Kind}, nil
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return spec{}, errors.New("something follows the description")
	}
	if !versionForm.MatchString(s.Version) {
		return spec{}, fmt.Errorf("its cdiVersion is %.20q, and 0.3 to 1.x are known", s.Version)
	}
	for _, d := range s.Devices {
		if d.Name == "" || strings.ContainsAny(d.Name, " \t\n\x00") || len(d.Name) > 256 {
			return spec{}, fmt.Errorf("%.300q is no name of a device", d.Name)
		}
	}
	return s, nil
}

// checked returns an absolute path in its shortest form.
func checked(p string) (string, error) {
	if !path.IsAbs(p) || strings.ContainsAny(p, "\x00\n") || len(p) > 4095 {
		return "", fmt.Errorf("%.300q is no absolute path", p)
	}
	return path.Clean(p), nil
}
