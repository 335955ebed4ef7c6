package boltfile

import (
	"bytes"
	"fmt"
)

// visit is called with each entry of a leaf.
type visit func(key, value []byte, bucket bool)

// walk visits the entries of a tree.
func (f *reader) walk(root uint64, each visit) {
	p, kind := f.page(root, flagBranch, flagLeaf)
	switch {
	case p == nil:
	case kind == flagLeaf:
		f.leaf(fmt.Sprintf("page %d", root), p, each)
	default:
		f.branch(root, p, each)
	}
}

func (f *reader) branch(id uint64, p []byte, each visit) {
	count := int(order.Uint16(p[10:]))
	if count == 0 || pageHeader+count*element > len(p) {
		f.bad(fmt.Errorf("page %d has %d entries", id, count))
		return
	}
	var before []byte
	for n := range count {
		e := p[pageHeader+n*element:]
		key, ok := part(e, order.Uint32(e), order.Uint32(e[4:]))
		if !ok || n > 0 && bytes.Compare(before, key) >= 0 {
			f.bad(fmt.Errorf("entry %d of page %d is damaged", n, id))
			continue
		}
		before = key
		f.walk(order.Uint64(e[8:]), each)
	}
}

// leaf visits the entries of a leaf: a page, or a small bucket within one.
func (f *reader) leaf(name string, p []byte, each visit) {
	count := int(order.Uint16(p[10:]))
	if pageHeader+count*element > len(p) {
		f.bad(fmt.Errorf("%s has %d entries", name, count))
		return
	}
	var before []byte
	for n := range count {
		e := p[pageHeader+n*element:]
		flags, at, size := order.Uint32(e), order.Uint32(e[4:]), order.Uint32(e[8:])
		key, ok := part(e, at, size)
		value, fits := part(e, at+size, order.Uint32(e[12:]))
		if !ok || !fits || flags > flagBucket || size == 0 || n > 0 && bytes.Compare(before, key) >= 0 {
			f.bad(fmt.Errorf("entry %d of %s is damaged", n, name))
			continue
		}
		before = key
		each(key, value, flags == flagBucket)
	}
}

// part returns size bytes that begin that far from the start of e.
func part(e []byte, at, size uint32) ([]byte, bool) {
	if end := uint64(at) + uint64(size); at < element || end > uint64(len(e)) {
		return nil, false
	}
	return e[at : at+size : at+size], true
}

// bucket reads a top bucket. Other entries, and buckets within buckets, are not of this package.
func (f *reader) bucket(name, value []byte, bucket bool) {
	if !bucket || len(value) < bucketSize {
		f.bad(fmt.Errorf("entry %q of the root is not a bucket", name))
		return
	}
	entries := make(map[string][]byte)
	f.got[string(name)] = entries
	each := func(key, value []byte, bucket bool) {
		if bucket {
			f.bad(fmt.Errorf("entry %q of bucket %q is a bucket", key, name))
			return
		}
		entries[string(key)] = value
	}
	if root := order.Uint64(value); root != 0 {
		f.walk(root, each)
		return
	}
	inner := value[bucketSize:] // a small bucket is in the place of its value
	if len(inner) < pageHeader || order.Uint16(inner[8:]) != flagLeaf {
		f.bad(fmt.Errorf("bucket %q is damaged", name))
		return
	}
	f.leaf(fmt.Sprintf("bucket %q", name), inner, each)
}

// freelistPage checks that no page counts as free that holds something, nor twice.
func (f *reader) freelistPage() {
	if f.freelist == noFreelist {
		return
	}
	p, _ := f.page(f.freelist, flagFreelist)
	if p == nil {
		return
	}
	ids := p[pageHeader:]
	count := uint64(order.Uint16(p[10:]))
	if count == manyIDs && len(ids) >= 8 {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		f.bad(fmt.Errorf("the list of free pages has %d entries", count))
		return
	}
	for n := range count {
		id := order.Uint64(ids[8*n:])
		if id < 2 || id >= f.pages || f.used[id] {
			f.bad(fmt.Errorf("page %d cannot be free", id))
			return
		}
		f.used[id] = true
	}
}
