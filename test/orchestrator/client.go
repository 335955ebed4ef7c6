package orchestrator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Client asks one host's pool-managerd.
type Client struct {
	HTTP *http.Client
	Base string // "http://127.0.0.1:9200"
	Name string // holder of its leases
}

// Status is a pool's status.
type Status struct {
	PoolID        string
	Live, Ready   bool
	ActiveLeases  int
	SlotsTotal    int
	SlotsFree     int
	EngineVersion *string
}

// Lease is one slot that the client has.
type Lease struct {
	ID        string `json:"lease_id"`
	PoolID    string `json:"pool_id"`
	ReplicaID string `json:"replica_id"`
	Endpoint  string `json:"endpoint"`
	ExpiresMS int64  `json:"expires_at_ms"`
}

// Refused is an answer that is no success.
type Refused struct {
	HTTPStatus  int
	Code        string `json:"code"`
	Message     string `json:"message"`
	Text        string `json:"error"`
	Retriable   bool   `json:"retriable"`
	PolicyLabel string `json:"policy_label"`
	Engine      string `json:"engine"`

	RetryAfter time.Duration // 0: it does not say
}

// Error returns the code and the message.
func (r *Refused) Error() string { return fmt.Sprintf("%d %s: %s", r.HTTPStatus, r.Code, r.Message) }

// Status asks as most versions of such a client do: by POST, with an empty object. prefix is "",
// "/v1" or "/v2".
func (c *Client) Status(ctx context.Context, prefix, pool string) (Status, error) {
	var fields map[string]json.RawMessage
	if err := c.do(ctx, http.MethodPost, prefix+"/pools/"+pool+"/status", struct{}{}, http.StatusOK,
		&fields); err != nil {
		return Status{}, err
	}
	var s Status
	for name, into := range map[string]any{"pool_id": &s.PoolID, "live": &s.Live, "ready": &s.Ready, "active_leases": &s.ActiveLeases,
		"slots_total": &s.SlotsTotal, "slots_free": &s.SlotsFree, "engine_version": &s.EngineVersion} {
		if err := take(fields, name, into, name == "engine_version"); err != nil {
			return Status{}, fmt.Errorf("status of %s: %w", pool, err)
		}
	}
	return s, nil
}

// TryAcquire takes a slot, of one replica where it is named, or returns a *Refused.
func (c *Client) TryAcquire(ctx context.Context, pool, replica string, ttl time.Duration) (Lease, error) {
	var l Lease
	body := map[string]any{"holder": c.Name, "ttl_ms": ttl.Milliseconds()}
	if replica != "" {
		body["replica_id"] = replica
	}
	err := c.do(ctx, http.MethodPost, "/v1/pools/"+pool+"/leases", body, http.StatusCreated, &l)
	if err == nil && (l.ID == "" || l.PoolID != pool || l.ReplicaID == "" || l.Endpoint == "" || l.ExpiresMS == 0) {
		err = fmt.Errorf("a lease of %s lacks something: %+v", pool, l)
	}
	return l, err
}

// Acquire takes a slot, and waits as long as the host asks it to whenever there is none.
func (c *Client) Acquire(ctx context.Context, pool, replica string, ttl time.Duration) (Lease, error) {
	for {
		l, err := c.TryAcquire(ctx, pool, replica, ttl)
		var refused *Refused
		if !errors.As(err, &refused) || !refused.Retriable || refused.RetryAfter == 0 {
			return l, err
		}
		select {
		case <-ctx.Done():
			return Lease{}, errors.Join(ctx.Err(), err)
		case <-time.After(refused.RetryAfter):
		}
	}
}

// Renew lets a lease live for another ttl.
func (c *Client) Renew(ctx context.Context, l Lease, ttl time.Duration) error {
	return c.do(ctx, http.MethodPut, "/v1/pools/"+l.PoolID+"/leases/"+l.ID,
		map[string]any{"ttl_ms": ttl.Milliseconds()}, http.StatusOK, nil)
}

// Release returns a lease.
func (c *Client) Release(ctx context.Context, l Lease) error {
	return c.do(ctx, http.MethodDelete, "/v1/pools/"+l.PoolID+"/leases/"+l.ID, nil, http.StatusNoContent, nil)
}

// Drain makes a pool finish its leases, until the deadline, and stop.
func (c *Client) Drain(ctx context.Context, prefix, pool string, deadline time.Duration) error {
	return c.do(ctx, http.MethodPost, prefix+"/pools/"+pool+"/drain",
		map[string]any{"deadline_ms": deadline.Milliseconds()}, http.StatusAccepted, nil)
}

// Resume ends a drain.
func (c *Client) Resume(ctx context.Context, pool string) error {
	return c.do(ctx, http.MethodPost, "/v1/pools/"+pool+"/resume", nil, http.StatusAccepted, nil)
}

// Reload has a pool serve another model.
func (c *Client) Reload(ctx context.Context, prefix, pool, model string) error {
	return c.do(ctx, http.MethodPost, prefix+"/pools/"+pool+"/reload", map[string]any{"new_model_ref": model},
		http.StatusAccepted, nil)
}

// Prepared is an engine that the orchestrator has prepared, as the host starts it.
type Prepared struct {
	BinaryPath    string   `json:"binary_path"`
	Flags         []string `json:"flags"`
	Host          string   `json:"host"`
	Port          int      `json:"port"`
	ModelPath     string   `json:"model_path"`
	EngineVersion *string  `json:"engine_version"`
	PoolID        string   `json:"pool_id"`
	ReplicaID     string   `json:"replica_id"`
	DeviceMask    *string  `json:"device_mask"`
}

// Preloaded is where an engine that was preloaded is found.
type Preloaded struct {
	PoolID      string `json:"pool_id"`
	PID         int    `json:"pid"`
	HandoffPath string `json:"handoff_path"`
}

// Preload has the host start a prepared engine, and waits until it is ready.
func (c *Client) Preload(ctx context.Context, prefix string, p Prepared) (Preloaded, error) {
	var is Preloaded
	err := c.do(ctx, http.MethodPost, prefix+"/pools/"+p.PoolID+"/preload", map[string]any{"prepared": p},
		http.StatusOK, &is)
	if err == nil && (is.PoolID != p.PoolID || is.PID <= 0 || is.HandoffPath == "") {
		err = fmt.Errorf("the answer lacks something: %+v", is)
	}
	return is, err
}

// Remove has the host drain and remove a pool that was preloaded.
func (c *Client) Remove(ctx context.Context, prefix, pool string) error {
	return c.do(ctx, http.MethodDelete, prefix+"/pools/"+pool, nil, http.StatusAccepted, nil)
}

// do sends a request and decodes the answer; another status than want is a *Refused.
func (c *Client) do(ctx context.Context, method, path string, body any, want int, into any) error {
	var sent io.Reader = http.NoBody
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, sent)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != want {
		return refusal(resp, got)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(got, into); err != nil {
		return fmt.Errorf("%s %s: %w in %s", method, path, err, got)
	}
	return nil
}

// refusal reads an answer that is no success.
func refusal(resp *http.Response, body []byte) error {
	r := &Refused{HTTPStatus: resp.StatusCode}
	if err := json.Unmarshal(body, r); err != nil || r.Code == "" || r.Message == "" {
		return fmt.Errorf("status %d without a code and a message: %s", resp.StatusCode, body)
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.RetryAfter = time.Duration(seconds) * time.Second
	}
	return r
}
