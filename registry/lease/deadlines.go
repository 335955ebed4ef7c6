package lease

import "time"

// deadlines is a heap (container/heap) of leases, the one that expires first on top.
type deadlines []*held

// Len implements heap.Interface.
func (d deadlines) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deadlines) Less(i, j int) bool { return d[i].Expires < d[j].Expires }

// Swap implements heap.Interface.
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].at, d[j].at = i, j
}

// Push implements heap.Interface.
func (d *deadlines) Push(x any) {
	h := x.(*held)
	h.at = len(*d)
	*d = append(*d, h)
}

// Pop implements heap.Interface.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	h := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	return h
}

// remembered is how many ended leases the book can still give a reason for.
const remembered = 4096

// obituary keeps why the newest ended leases ended.
type obituary struct {
	why  map[string]string
	ring []string
	next int
}

// add returns the id that is forgotten for it, empty for none.
func (o *obituary) add(id, why string) (forgotten string) {
	if o.why == nil {
		o.why, o.ring = make(map[string]string), make([]string, remembered)
	}
	forgotten = o.ring[o.next]
	delete(o.why, forgotten)
	o.ring[o.next] = id
	o.next = (o.next + 1) % remembered
	o.why[id] = why
	return forgotten
}

func (o *obituary) of(id string) (string, bool) {
	why, ok := o.why[id]
	return why, ok
}

// longestSleep bounds one sleep: a timer of Go's counts only while the host is awake, and deadlines go on while it sleeps.
const longestSleep = 10 * time.Second

// alarm is a timer that can be set to nothing.
type alarm struct{ t *time.Timer }

func newAlarm() alarm { return alarm{time.NewTimer(longestSleep)} }

func (a alarm) c() <-chan time.Time { return a.t.C }
func (a alarm) stop()               { a.t.Stop() }

// set wakes after in; 0 is nothing to wake for.
func (a alarm) set(in Moment) {
	if in == 0 {
		a.t.Stop()
		return
	}
	a.t.Reset(min(max(time.Duration(in), time.Millisecond), longestSleep))
}
