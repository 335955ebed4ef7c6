package main

import (
	"fmt"
	"os"
	"os/exec"
	"time"
)

// work executes this program again and again, as a machine of many units does with its programs,
// and prints the shortest time in nanoseconds: other load on the processors makes the others
// longer.
func work() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var shortest time.Duration
	for range 30 {
		began := time.Now()
		if out, err := exec.Command(self, "nothing").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if took := time.Since(began); shortest == 0 || took < shortest {
			shortest = took
		}
	}
	fmt.Println(shortest.Nanoseconds())
	return nil
}
