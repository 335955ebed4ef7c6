package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestBillOfMaterials reads the test's own program, which has Go's library and its module.
func TestBillOfMaterials(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	written := func(epoch string) []byte {
		var b bytes.Buffer
		if err := run(&b, "pool-managerd", "1.2.3", []string{self}, epoch); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := written("1700000000")
	if !bytes.Equal(first, written("1700000000")) {
		t.Error("the same program makes two documents")
	}
	var d document
	if err := json.Unmarshal(first, &d); err != nil {
		t.Fatal(err)
	}
	if d.CreationInfo.Created != "2023-11-14T22:13:20Z" || d.Name != "pool-managerd-1.2.3" {
		t.Errorf("name %s, created %s", d.Name, d.CreationInfo.Created)
	}
	ids := []string{documentID}
	for _, p := range d.Packages {
		if slices.Contains(ids, p.SPDXID) || !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(p.SPDXID) {
			t.Errorf("identifier %s", p.SPDXID)
		}
		if p.DownloadLocation == "" || p.LicenseDeclared == "" || p.LicenseConcluded == "" || p.CopyrightText == "" {
			t.Errorf("incomplete: %+v", p)
		}
		ids = append(ids, p.SPDXID)
	}
	for _, r := range d.Relationships {
		if !slices.Contains(ids, r.Element) || !slices.Contains(ids, r.Related) {
			t.Errorf("%s %s %s: no such package", r.Element, r.Type, r.Related)
		}
	}
	if i := slices.IndexFunc(d.Packages, func(p spdxPackage) bool { return p.Name == stdlib }); i < 0 ||
		!strings.HasPrefix(d.Packages[i].ExternalRefs[0].Locator, "pkg:golang/stdlib@1.") {
		t.Errorf("Go's library is not listed: %+v", d.Packages)
	}
}

// TestModules: each module is listed once, with its sum, however many programs have it.
func TestModules(t *testing.T) {
	m := module("github.com/a/b_c/v2", "v2.0.0+incompatible", "h1:x=")
	if m.SPDXID != "SPDXRef-Module-github.com-a-b-c-v2-v2.0.0-incompatible" || m.Comment != "go.sum: h1:x=" ||
		m.ExternalRefs[0].Locator != "pkg:golang/github.com/a/b_c/v2@v2.0.0+incompatible" {
		t.Errorf("%+v", m)
	}
}

// TestNoProgram: a file that Go did not link is refused by name, and so is a time that is none.
func TestNoProgram(t *testing.T) {
	file := t.TempDir() + "/script"
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := run(&bytes.Buffer{}, "n", "1", []string{file}, "0"); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
	if err := run(&bytes.Buffer{}, "n", "1", nil, "yesterday"); err == nil {
		t.Error("no error for a time that is none")
	}
}
