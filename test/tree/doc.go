// Package tree tests the source tree itself: which package may import which, how long a file may
// be, that each promise of the docs has a test, that the programs are static.
//
// It reads files and builds the programs. It must not import any package of the product: a rule
// about the tree does not depend on the code.
package tree
