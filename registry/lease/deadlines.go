package lease

import "time"

// deadlines is a heap (container/heap) of leases; the one that expires first is on top.
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

// Bounds of one sleep. A Go timer stops while the host is suspended, and deadlines do not.
const (
	shortestSleep = time.Millisecond
	longestSleep  = 10 * time.Second
)

// alarm is a timer that can be off.
type alarm struct{ t *time.Timer }

func newAlarm() alarm { return alarm{time.NewTimer(longestSleep)} }

func (a alarm) c() <-chan time.Time { return a.t.C }
func (a alarm) stop()               { a.t.Stop() }

// set makes the alarm fire after a time; 0 turns it off.
func (a alarm) set(in time.Duration) {
	if in == 0 {
		a.t.Stop()
		return
	}
	a.t.Reset(in)
}
