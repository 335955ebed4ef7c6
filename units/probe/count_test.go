package probe

// count returns how many connections are open.
func (d *dialed) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, conns := range d.open {
		n += len(conns)
	}
	return n
}
