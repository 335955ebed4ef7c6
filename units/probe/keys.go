package probe

import (
	"net/http"
	"sync"
)

// keys are what engines ask their callers for, by their addresses. The zero value is usable.
type keys struct {
	mu sync.Mutex
	of map[string]*key
}

// key is that of one engine.
type key struct {
	read func() string // the key as it is written down now; "": none

	mu    sync.Mutex
	known bool
	value string // what the engine took last, or what was read first
}

// UseKey has every request to the engine at host ("127.0.0.1:21000") carry a key, which is read
// when it is first needed and whenever the engine refuses the former one: an engine keeps the key
// that it was started with. nil: the engine asks for none.
func (p *Prober) UseKey(host string, read func() string) {
	p.keys.mu.Lock()
	defer p.keys.mu.Unlock()
	if read == nil {
		delete(p.keys.of, host)
		return
	}
	if p.keys.of == nil {
		p.keys.of = make(map[string]*key)
	}
	p.keys.of[host] = &key{read: read}
}

// at returns the key of an engine; nil: it has none.
func (k *keys) at(host string) *key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.of[host]
}

// use returns the key to send.
func (k *key) use() string {
	if k == nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.known {
		k.value, k.known = k.read(), true
	}
	return k.value
}

// other returns another key to send instead of one that the engine refused; "": there is none.
func (k *key) other(refused string) string {
	if k == nil {
		return ""
	}
	if now := k.read(); now != refused {
		return now
	}
	return ""
}

// took records the key that the engine has taken.
func (k *key) took(value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.value, k.known = value, true
}

// wantsKey reports whether a status means that a request has no key, or the wrong one.
func wantsKey(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}
