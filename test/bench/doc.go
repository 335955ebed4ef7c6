// Package bench measures an installed pool-managerd in a container machine on the bare processor,
// and prints the figures as a table, each beside a peer or a target of the same run. Nothing here
// fails because something was slow: the figures are to be read by people, on an otherwise idle
// machine.
//
//	make bench
package bench
