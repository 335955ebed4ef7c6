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

// logWithin bounds the reading of the engine's log, including the start of journalctl. It usually
// takes a fraction of a second; it takes longer if the journal is behind because everything on the
// host starts at the same time.
const logWithin = 10 * time.Second

// gpuLog searches an engine's log for the line that reports a fallback to the CPU.
type gpuLog struct {
	fallbacks  []classify.Fallback
	invocation string
	journalctl string // the program
	stream     int    // the engine's own connection to the journal; -1: unknown
	within     time.Duration
	log        *log.Logger
}

// settleTime is the time without a new line after which the log counts as read to the end. The
// journal notifies its readers of new entries with a delay of up to a quarter of a second
// (POST_CHANGE_TIMER_INTERVAL_USEC in systemd's journald-file.c), and more on a busy host: 350 ms
// were too short there, once in a few dozen starts.
const settleTime = time.Second

// fallback logs a line, and then returns why the engine runs on the CPU, with the line that reports
// it; "" if there is none. If the journal cannot be read, it logs that and returns "".
//
// What the engine wrote a moment ago may not be in the journal yet. So fallback reads until it
// finds its own line. It writes that line to the engine's stream, since the journal keeps the order
// within a stream. It keeps no order between streams: a line from the gate's own stream can come
// before thousands of the engine's (seen on 252, 257 and 262). If only the gate's own stream is
// available, fallback reads until no line comes for settleTime.
func (g *gpuLog) fallback(ctx context.Context, text string) (why string) {
	exact := sendLine(g.stream, g.log.Prefix()+text)
	if !exact {
		g.log.Println(text)
	}
	if g.invocation == "" {
		g.warn("INVOCATION_ID is not set")
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, g.within)
	defer cancel()
	out, cmd, err := g.follow()
	if err != nil {
		g.warn(err.Error())
		return ""
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	why, err = g.read(out, g.log.Prefix()+text, exact)
	stop()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		g.warn("the journal did not answer within " + g.within.String())
	default:
		g.warn(err.Error())
	}
	_ = cmd.Process.Kill()
	out.Close()
	_ = cmd.Wait()
	return why
}

// follow starts journalctl at the first line of the run.
func (g *gpuLog) follow() (*os.File, *exec.Cmd, error) {
	out, end, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer end.Close()
	cmd := exec.Command(g.journalctl, "--quiet", "--follow", "--no-tail", "--all", "--output=json",
		"--output-fields=_PID,MESSAGE", inSlice, "_SYSTEMD_INVOCATION_ID="+g.invocation)
	cmd.Stdout = end
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, nil, err
	}
	return out, cmd, nil
}

// read reads up to the first line that reports a fallback, or to the gate's own line; if that one
// is not in order (exact is false), until no line comes for settleTime. It returns an error if the
// log ends before.
func (g *gpuLog) read(out *os.File, own string, exact bool) (why string, err error) {
	scanner := bufio.NewScanner(out)
	scanner.Buffer(make([]byte, 0, 4096), 1<<20)
	marked := false
	for scanner.Scan() {
		pid, text := logLine(scanner.Bytes())
		if pid != os.Getpid() {
			if reason, found := classify.OnCPU(g.fallbacks, text); found {
				return fmt.Sprintf("%s; its log says %q", reason, cut(text, 200)), nil
			}
		} else if text == own {
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

func (g *gpuLog) warn(why string) {
	g.log.Println("could not read the engine's log; unknown whether it uses its GPU:", why)
}

// logLine returns the process and the message of one JSON line. journalctl writes a message with
// unprintable characters, such as colours, as an array of bytes.
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
	_ = json.Unmarshal(fields.Message, &list) // anything else is not an engine's message
	return pid, string(list)
}

// cut shortens a text to at most so many bytes.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}
