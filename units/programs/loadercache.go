package programs

import (
	"bytes"
	"encoding/binary"
)

// cachePath is where ldconfig(8) writes what the libraries of the system are called.
const cachePath = "/etc/ld.so.cache"

// loaderCache is ld.so.cache in glibc's format of 1999 ("new"), also behind the one before it.
type loaderCache struct {
	whole   []byte
	entries []byte // 24 bytes each
	order   binary.ByteOrder
}

const (
	cacheOld   = "ld.so-1.7.0"
	cacheNew   = "glibc-ld.so.cache1.1"
	cacheEntry = 24 // flags, key and value, each 4 bytes; osversion 4, hwcap 8
	cacheHead  = 48
)

// parseCache returns the cache, or nil if it is in no known format.
func parseCache(raw []byte, order binary.ByteOrder) *loaderCache {
	if bytes.HasPrefix(raw, []byte(cacheOld)) {
		// The new one follows the entries of the old, of 12 bytes, at a multiple of 8.
		const head = 16
		if len(raw) < head {
			return nil
		}
		skip := (head + 12*uint64(order.Uint32(raw[12:])) + 7) &^ 7
		if skip > uint64(len(raw)) {
			return nil
		}
		raw = raw[skip:]
	}
	if len(raw) < cacheHead || !bytes.HasPrefix(raw, []byte(cacheNew)) {
		return nil
	}
	count := uint64(order.Uint32(raw[20:]))
	if count > uint64(len(raw)-cacheHead)/cacheEntry {
		return nil
	}
	return &loaderCache{whole: raw, entries: raw[cacheHead : cacheHead+count*cacheEntry], order: order}
}

// paths returns the files that the cache has for a library's name.
func (c *loaderCache) paths(library string) (found []string) {
	for e := c.entries; len(e) >= cacheEntry && len(found) < maxFolders; e = e[cacheEntry:] {
		if c.is(c.order.Uint32(e[4:]), library) {
			if p := c.text(c.order.Uint32(e[8:])); p != "" {
				found = append(found, p)
			}
		}
	}
	return found
}

// is reports whether a string of the cache is the one given.
func (c *loaderCache) is(at uint32, s string) bool {
	end := uint64(at) + uint64(len(s))
	return end < uint64(len(c.whole)) && c.whole[end] == 0 && string(c.whole[at:end]) == s
}

func (c *loaderCache) text(at uint32) string {
	if uint64(at) >= uint64(len(c.whole)) {
		return ""
	}
	s := c.whole[at:min(uint64(at)+maxElement, uint64(len(c.whole)))]
	if end := bytes.IndexByte(s, 0); end >= 0 {
		return string(s[:end])
	}
	return ""
}
