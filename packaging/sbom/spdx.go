package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// document, and the types of its parts, have the names of the SPDX 2.3 specification
// (https://spdx.github.io/spdx-spec/v2.3).
type document struct {
	SPDXVersion       string         `json:"spdxVersion"`
	DataLicense       string         `json:"dataLicense"`
	SPDXID            string         `json:"SPDXID"`
	Name              string         `json:"name"`
	DocumentNamespace string         `json:"documentNamespace"`
	CreationInfo      creationInfo   `json:"creationInfo"`
	Packages          []spdxPackage  `json:"packages"`
	Relationships     []relationship `json:"relationships"`
}

type creationInfo struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	SPDXID           string        `json:"SPDXID"`
	Name             string        `json:"name"`
	VersionInfo      string        `json:"versionInfo,omitempty"`
	Purpose          string        `json:"primaryPackagePurpose"`
	DownloadLocation string        `json:"downloadLocation"`
	FilesAnalyzed    bool          `json:"filesAnalyzed"`
	LicenseConcluded string        `json:"licenseConcluded"`
	LicenseDeclared  string        `json:"licenseDeclared"`
	CopyrightText    string        `json:"copyrightText"`
	Comment          string        `json:"comment,omitempty"`
	Checksums        []checksum    `json:"checksums,omitempty"`
	ExternalRefs     []externalRef `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type externalRef struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

const (
	documentID  = "SPDXRef-DOCUMENT"
	noAssertion = "NOASSERTION" // the licences' texts are in the package, not interpreted
	stdlib      = "stdlib"      // the name under which vulnerability databases list Go's own library
)

// describe makes the document: the package contains the programs, each depends on the modules that
// are linked into it, and on Go's standard library.
func describe(name, version string, at time.Time, programs []program) document {
	d := document{SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: documentID, Name: name + "-" + version,
		CreationInfo: creationInfo{Created: at.Format(time.RFC3339), Creators: []string{"Tool: " + name + "-sbom"}}}
	all, sum := identifier("Package", name), sha256.New()
	d.Packages = append(d.Packages, spdxPackage{SPDXID: all, Name: name, VersionInfo: version, Purpose: "APPLICATION",
		LicenseDeclared: "Apache-2.0"})
	d.relate(documentID, "DESCRIBES", all)
	modules := map[string]spdxPackage{}
	for _, p := range programs {
		fmt.Fprintln(sum, p.digest)
		id := identifier("Program", p.name)
		d.Packages = append(d.Packages, spdxPackage{SPDXID: id, Name: p.name, VersionInfo: version,
			Purpose: "APPLICATION", LicenseDeclared: "Apache-2.0", Checksums: []checksum{{"SHA256", p.digest}}})
		d.relate(all, "CONTAINS", id)
		for _, m := range append(linked(p.info), module(stdlib, strings.TrimPrefix(p.info.GoVersion, "go"), "")) {
			modules[m.SPDXID] = m
			d.relate(id, "DEPENDS_ON", m.SPDXID)
		}
	}
	for _, m := range modules {
		d.Packages = append(d.Packages, m)
	}
	// The package and its programs come first, as they were given.
	slices.SortStableFunc(d.Packages[1+len(programs):], func(a, b spdxPackage) int {
		return cmp.Compare(a.SPDXID, b.SPDXID)
	})
	for i := range d.Packages {
		d.Packages[i].complete()
	}
	d.DocumentNamespace = "https://github.com/pool-managerd/pool-managerd/spdx/" +
		url.PathEscape(d.Name) + "-" + hex.EncodeToString(sum.Sum(nil))
	return d
}

// linked are the modules that a program is linked from, its own left out.
func linked(info *debug.BuildInfo) (out []spdxPackage) {
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, module(m.Path, m.Version, m.Sum))
	}
	return out
}

// module is a module of Go; its sum, of go.sum, may be empty.
func module(path, version, sum string) spdxPackage {
	p := spdxPackage{SPDXID: identifier("Module", path+"-"+version), Name: path, VersionInfo: version,
		Purpose: "LIBRARY", ExternalRefs: []externalRef{{"PACKAGE-MANAGER", "purl",
			"pkg:golang/" + path + "@" + url.PathEscape(version)}}}
	if sum != "" {
		p.Comment = "go.sum: " + sum
	}
	return p
}

// complete sets the fields that have to be there, to what SPDX has for "not stated".
func (p *spdxPackage) complete() {
	p.DownloadLocation, p.LicenseConcluded, p.CopyrightText = noAssertion, noAssertion, noAssertion
	p.LicenseDeclared = cmp.Or(p.LicenseDeclared, noAssertion)
}

func (d *document) relate(element, kind, related string) {
	d.Relationships = append(d.Relationships, relationship{element, kind, related})
}

// identifier is an SPDX identifier, which has letters, digits, "." and "-" only.
func identifier(kind, name string) string {
	return "SPDXRef-" + kind + "-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, name)
}
