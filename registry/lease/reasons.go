package lease

// remembered is how many ended leases the book keeps the reason of.
const remembered = 4096

// maxReason is the longest reason, in bytes: one too long for the store would fail the whole batch.
const maxReason = 4 << 10

// reasons has why the newest ended leases ended.
type reasons struct {
	why  map[string]string
	ring []string
	next int
}

// add returns the id that it replaced, empty for none.
func (r *reasons) add(id, why string) (forgotten string) {
	if r.why == nil {
		r.why, r.ring = make(map[string]string), make([]string, remembered)
	}
	forgotten = r.ring[r.next]
	delete(r.why, forgotten)
	r.ring[r.next] = id
	r.next = (r.next + 1) % remembered
	r.why[id] = why
	return forgotten
}

func (r *reasons) of(id string) (string, bool) {
	why, ok := r.why[id]
	return why, ok
}
