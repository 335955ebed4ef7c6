package metrics

// LeaseRejected counts a refused lease call, by a reason of a closed list.
func (m *Metrics) LeaseRejected(reason string) {
	m.leaseRejections.WithLabelValues(m.leaseReasons.fold(reason)).Inc()
}
