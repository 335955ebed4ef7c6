package strict

import (
	"fmt"
	"strings"
)

// Report collects the problems of one document. It is not safe for concurrent use.
type Report struct {
	doc      *Document
	problems []Problem
	dropped  bool
	failed   map[string]bool
}

func newReport(d *Document) *Report { return &Report{doc: d, failed: make(map[string]bool)} }

// add takes a problem at an offset in the file, or about the whole file where it is negative.
func (r *Report) add(at int, key, message, allowed, hint string) {
	r.failed[key] = true
	if len(r.problems) >= maxProblems {
		if !r.dropped {
			r.dropped = true
			r.problems = append(r.problems, Problem{File: r.doc.File,
				Message: fmt.Sprintf("more than %d problems; the rest is not listed", maxProblems)})
		}
		return
	}
	p := Problem{File: r.doc.File, Key: key, Message: message, Allowed: allowed, Hint: hint}
	if at >= 0 {
		p.Line, p.Column = r.doc.Place(at)
	}
	r.problems = append(r.problems, p)
}

// full reports whether further problems would not be listed.
func (r *Report) full() bool { return len(r.problems) > maxProblems }

// Failed reports whether a key, or one inside it, has a problem already, so that a rule about
// several keys need not report it again.
func (r *Report) Failed(keys ...string) bool {
	for _, key := range keys {
		if r.failed[key] {
			return true
		}
	}
	return false
}

// Has reports whether a dotted key is in the file.
func (r *Report) Has(key string) bool { return r.doc.Find(strings.Split(key, ".")...) != nil }

// Rule reports a broken rule between keys, at the first of them in the file.
func (r *Report) Rule(message, allowed, hint string, keys ...string) {
	r.add(-1, keys[0], message, allowed, hint)
	if p := &r.problems[len(r.problems)-1]; p.Message == message {
		p.Line, p.Column = r.doc.PlaceOf(keys...)
	}
}

// RuleItem is Rule about an item of the first key's list; a negative item is the whole value.
func (r *Report) RuleItem(item int, message, hint string, keys ...string) {
	list := r.doc.Find(strings.Split(keys[0], ".")...)
	if list == nil || item < 0 || item >= len(list.Items) {
		r.Rule(message, "", hint, keys...)
		return
	}
	r.add(list.Items[item].At, keys[0], message, "", hint)
}

// At is where a setter reports: one key of the document, or one item of its list.
type At struct {
	report *Report
	key    string // as Problem.Key has it
	last   string // the last part of the key, as it stands in the file
	name   string // as the message has it: the key, or "args[2]"
	offset int    // of the key in the file
}

// Last returns the last part of the key as it was written: the name of a variable under env.
func (a At) Last() string { return a.last }

// Item returns the place of an item of the list.
func (a At) Item(i int) At {
	a.name = fmt.Sprintf("%s[%d]", a.name, i)
	return a
}

// Bad reports a value by what it is: "replicas is 0; want 1-8".
func (a At) Bad(v *Value, allowed, hint string) { a.Say(v, "is "+v.Describe(), allowed, hint) }

// Wrong reports a value of another type than the key takes, with its type: `is the string "2"`.
func (a At) Wrong(v *Value, allowed, hint string) { a.Say(v, "is "+v.typed(), allowed, hint) }

// Say reports any other problem of a value; found continues the key's name.
func (a At) Say(v *Value, found, allowed, hint string) {
	if v.bad {
		a.report.failed[a.key] = true
		return
	}
	a.report.add(v.At, a.key, a.name+" "+found, allowed, hint)
}

// SayKey reports a problem of the key itself; found continues its name.
func (a At) SayKey(found, allowed, hint string) {
	a.report.add(a.offset, a.key, a.name+" "+found, allowed, hint)
}

// join appends a key to a dotted path as TOML would write it.
func join(path, key string) string {
	if !bareKey(key) {
		key = Quote(key)
	}
	if len(path) > 4*maxShown {
		return path // an absurd depth; the message stays readable
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// bareKey reports whether a key needs no quotes in TOML, and is short enough for a message.
func bareKey(key string) bool {
	if key == "" || len(key) > maxShown {
		return false
	}
	for _, c := range []byte(key) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
