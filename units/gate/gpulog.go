package gate

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// logWithin bounds the look at the engine's log, journalctl's own start included. It takes a
// fraction of a second, and longer only where the journal cannot keep up with a host on which
// everything starts at once.
const logWithin = 10 * time.Second

// gpuLog looks for the line by which an engine that was given a GPU says that it runs without one.
type gpuLog struct {
	fallbacks  []classify.Fallback
	invocation string
	journalctl string // the program
	stream     int    // the engine's own way to the journal; -1: not known
	within     time.Duration
	log        *log.Logger
}

// settleTime is how long no line of the engine may come until it counts as read to the end. The
// journal tells its readers of new entries with a delay of up to a quarter of a second
// (POST_CHANGE_TIMER_INTERVAL_USEC in systemd's journald-file.c), and on a busy host it lags by
// more: 350 ms were too little there, once in some tens of starts.
const settleTime = time.Second

// fallback logs a line, and then returns why the engine runs on the CPU, with its own words; ""
// where it does not say so. A journal that cannot be read lets the engine pass, with a line that
// says so.
//
// What the engine wrote a moment ago may not be in the journal yet. So the log is read until that
// first line has come back. It is written to the engine's own stream, whose order the journal
// keeps. Among different streams it keeps none: a line of the gate's own comes before thousands of
// the engine's that still wait (seen on 252, 257 and 262). Where only that can be had, reading goes
// on until nothing more comes.
func (g *gpuLog) fallback(ctx context.Context, text string) (why string) {
	exact := sendLine(g.stream, g.log.Prefix()+text)
	if !exact {
		g.log.Println(text)
	}
	if g.invocation == "" {
		g.pass("INVOCATION_ID is not set")
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	out, cmd, err := g.follow()
	if err != nil {
		g.pass(err.Error())
		return ""
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	why, err = g.read(out, g.log.Prefix()+text, exact)
	stop()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		g.pass("the journal did not answer within " + g.within.String())
	default:
		g.pass(err.Error())
	}
	_ = cmd.Process.Kill()
	out.Close()
	_ = cmd.Wait()
	return why
}

// follow starts journalctl with the first line of the run.
func (g *gpuLog) follow() (*os.File, *exec.Cmd, error) {
	out, end, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer end.Close()
	cmd := exec.Command(g.journalctl, "--quiet", "--follow", "--no-tail", "--all", "--output=json",
		"--output-fields=_PID,MESSAGE", "_SYSTEMD_INVOCATION_ID="+g.invocation)
	cmd.Stdout = end
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, nil, err
	}
	return out, cmd, nil
}

// read goes through the lines up to the gate's own, and on until they settle where that one does
// not come last; or to the first by which the engine tells. An error says that there was neither.
func (g *gpuLog) read(out *os.File, mark string, exact bool) (why string, err error) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	marked := false
	for scanner.Scan() {
		pid, text := logLine(scanner.Bytes())
		if pid != os.Getpid() {
			if reason, found := classify.OnCPU(g.fallbacks, text); found {
				return fmt.Sprintf("%s; its log says %q", reason, cut(text, 200)), nil
			}
		} else if text == mark {
			if marked = true; exact {
				return "", nil
			}
		}
		if marked {
			if err := out.SetReadDeadline(time.Now().Add(settleTime)); err != nil {
				return "", err
			}
		}
	}
	switch err := scanner.Err(); {
	case marked && errors.Is(err, os.ErrDeadlineExceeded):
		return "", nil
	case err != nil:
		return "", err
	}
	return "", errors.New("journalctl ended")
}

func (g *gpuLog) pass(why string) {
	g.log.Println("the engine's log cannot be read, so nobody knows yet whether it uses its GPU:", why)
}

// logLine reads the writer and the text of one JSON line. journalctl writes a text with unprintable
// characters, such as colours, as an array of bytes.
func logLine(line []byte) (pid int, text string) {
	var fields struct {
		PID     string          `json:"_PID"`
		Message json.RawMessage `json:"MESSAGE"`
	}
	if json.Unmarshal(line, &fields) != nil {
		return 0, ""
	}
	pid, _ = strconv.Atoi(fields.PID)
	if json.Unmarshal(fields.Message, &text) == nil {
		return pid, text
	}
	var list []uint8
	_ = json.Unmarshal(fields.Message, &list) // what is neither is no text of an engine
	return pid, string(list)
}

// cut shortens a line of the engine's to so many bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
