package metrics

// LeaseRejected counts a call that got no lease, or lost the one that it had, by why: a word of a closed list.
func (m *Metrics) LeaseRejected(reason string) {
	m.leaseRejections.WithLabelValues(m.leaseReasons.fold(reason)).Inc()
}
