package machine

import (
	"os/exec"
	"runtime"
	"syscall"
)

// startTied starts cmd so that the kernel kills it with SIGKILL when this process dies, by whatever
// death, and in a session of its own, out of reach of a terminal's Ctrl-C. The channel yields the
// result of cmd.Wait once.
func startTied(cmd *exec.Cmd) (<-chan error, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setsid = true
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// prctl(2): the signal comes when the parent *thread* ends, so that thread waits here and
		// serves nothing else.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return ended, nil
}
