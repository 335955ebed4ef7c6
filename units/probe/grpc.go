package probe

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/probe/grpchealth"
)

func (p *Prober) askGRPC(ctx context.Context, c Check) error {
	req, err := request(ctx, http.MethodPost, "http://"+c.Host+grpchealth.Method,
		bytes.NewReader(grpchealth.Request(c.Service)))
	if err != nil {
		return failedGRPC(err, c)
	}
	req.Close = c.Close
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("Grpc-Timeout", fmt.Sprintf("%dm", max(c.Timeout.Milliseconds(), 1)))
	resp, err := p.h2.Do(req)
	if err != nil {
		return failedGRPC(err, c)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, bounds.GRPC))
	if err != nil {
		return failedGRPC(err, c)
	}
	if resp.StatusCode != http.StatusOK {
		return wrongGRPC(fmt.Sprintf("HTTP status %d%s", resp.StatusCode, quoted(body)))
	}
	// The status follows the message as a trailer; a response without a message has it among its
	// headers.
	if status := cmp.Or(resp.Trailer.Get("Grpc-Status"), resp.Header.Get("Grpc-Status")); status != "0" {
		said := cmp.Or(resp.Trailer.Get("Grpc-Message"), resp.Header.Get("Grpc-Message"))
		return wrongGRPC(fmt.Sprintf("gRPC status %s%s", bounds.Quote(status), quoted([]byte(said))))
	}
	state, err := grpchealth.Status(body)
	if err != nil {
		return wrongGRPC("the answer is not gRPC: " + err.Error())
	}
	if state != grpchealth.Serving {
		return wrongGRPC("its status is " + grpchealth.Name(state))
	}
	return nil
}

func wrongGRPC(text string) *Error { return &Error{Reason: ReasonGRPC, Text: text} }

// failedGRPC converts a transport error; a response that is not HTTP/2 is not gRPC.
func failedGRPC(err error, c Check) *Error {
	f := failed(err, c.Timeout)
	if f.Reason == ReasonHTTP {
		f.Reason, f.Text = ReasonGRPC, "the answer is not gRPC: "+brief(cause(err))
	}
	return f
}
