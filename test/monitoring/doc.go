// Package monitoring tests the alerts, recording rules and dashboard of packaging/monitoring: that
// Prometheus takes them, that every alert has a case in which it fires, and that they name metrics
// that exist.
//
// It owns no rule of its own. Only the test with a real Prometheus knows the code that counts.
package monitoring
