package supervise

import (
	"container/heap"
	"time"
)

// due is when a pool is to be decided on again: its place in dueTimes. The zero value is of one
// that waits for no time.
type due struct {
	at    time.Time
	index int // in the heap, plus one; 0: it is not there
}

// dueTimes are the pools that wait for a time, the earliest first, so that a wake-up costs what is
// due and not what there is.
type dueTimes struct{ heap dueHeap }

// add has a pool be due at a time, or earlier where it is already.
func (d *dueTimes) add(e *entry, at time.Time) {
	switch {
	case e.due.index == 0:
		e.due.at = at
		heap.Push(&d.heap, e)
	case at.Before(e.due.at):
		e.due.at = at
		heap.Fix(&d.heap, e.due.index-1)
	}
}

// drop forgets a pool.
func (d *dueTimes) drop(e *entry) {
	if e.due.index > 0 {
		heap.Remove(&d.heap, e.due.index-1)
	}
}

// first is the earliest time; zero where no pool waits.
func (d *dueTimes) first() time.Time {
	if len(d.heap) == 0 {
		return time.Time{}
	}
	return d.heap[0].due.at
}

// take returns the pools whose time has come, each of which waits no longer.
func (d *dueTimes) take(now time.Time) (taken []*entry) {
	for len(d.heap) > 0 && !d.heap[0].due.at.After(now) {
		taken = append(taken, heap.Pop(&d.heap).(*entry))
	}
	return taken
}

// dueHeap is what container/heap orders.
type dueHeap []*entry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.at.Before(h[j].due.at) }

func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].due.index, h[j].due.index = i+1, j+1
}

// Push implements heap.Interface.
func (h *dueHeap) Push(x any) {
	e := x.(*entry)
	*h = append(*h, e)
	e.due.index = len(*h)
}

// Pop implements heap.Interface.
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	e.due = due{}
	return e
}
