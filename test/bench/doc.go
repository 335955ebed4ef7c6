// Package bench measures an installed pool-managerd in a container machine on the bare processor,
// and prints the figures as a table, each beside a peer or a target of the same run. Nothing here
// fails because something was slow: numbers are for people, on a machine that does nothing else.
//
//	make bench
package bench
