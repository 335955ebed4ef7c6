package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Pool is a pool as GET /v1/pools/{id} documents it. What is null there is the zero value here.
type Pool struct {
	ID            string `json:"id"`
	Engine        string `json:"engine"`
	EngineVersion string `json:"engine_version"`
	ModelID       string `json:"model_id"`
	Model         Model  `json:"model"`
	SlotsTotal    int    `json:"slots_total"`
	SlotsFree     int    `json:"slots_free"`
	Live          bool   `json:"live"`
	Ready         bool   `json:"ready"`
	Draining      bool   `json:"draining"`
	ActiveLeases  int    `json:"active_leases"`
	Breaker       string `json:"breaker"`
	Override      *struct {
		ModelID string `json:"model_id"`
	} `json:"override"`
	Reload *struct {
		Phase string `json:"phase"`
	} `json:"reload"`
	State         string    `json:"state"`
	LastError     string    `json:"last_error"` // begins with its code and a colon
	Hint          string    `json:"hint"`
	Details       *Ending   `json:"details"`
	LastHeartbeat int64     `json:"last_heartbeat_ms"`
	RestartCount  int       `json:"restart_count"`
	BackoffMS     int64     `json:"backoff_ms"`
	Replicas      []Replica `json:"replicas"`
}

// Model is what a model's files say of it.
type Model struct {
	Architecture string `json:"architecture"`
	Quantization string `json:"quantization"`
	Parameters   uint64 `json:"parameters"`
	CtxTrained   int    `json:"ctx_trained"`
	Workload     string `json:"workload"`
}

// Replica is one engine process of a Pool.
type Replica struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Reason       string `json:"reason"`
	Ready        bool   `json:"ready"`
	Unit         string `json:"unit"`
	Endpoint     string `json:"endpoint"`
	PID          int    `json:"pid"`
	InvocationID string `json:"invocation_id"`
	RestartCount int    `json:"restart_count"`
	LastError    string `json:"last_error"`
	Hint         string `json:"hint"`
	Asleep       bool   `json:"asleep"`
	Ctx          int    `json:"ctx"`
	DiskBytes    uint64 `json:"disk_bytes"`
}

// Ending is how the run ended that last_error is about.
type Ending struct {
	Result        string   `json:"result"`
	ExitStatus    *int     `json:"exit_status"`
	Signal        string   `json:"signal"`
	UptimeMS      int64    `json:"uptime_ms"`
	RestartCount  int      `json:"restart_count"`
	EngineVersion string   `json:"engine_version"`
	Lines         []string `json:"lines"`
	NoLines       string   `json:"no_lines"`
	Suppressed    int      `json:"lines_suppressed"`
}

// Code is the stable code that last_error begins with, "" when there is none.
func (p Pool) Code() string {
	code, _, _ := strings.Cut(p.LastError, ":")
	return code
}

// String is one line for failure messages.
func (p Pool) String() string {
	return fmt.Sprintf("pool %s: state=%s live=%t ready=%t restart_count=%d last_error=%q hint=%q replicas=%+v",
		p.ID, p.State, p.Live, p.Ready, p.RestartCount, p.LastError, p.Hint, p.Replicas)
}

// Problem is a pool file that is wrong, as GET /v1/pools lists it.
type Problem struct {
	File   string `json:"file"`
	PoolID string `json:"pool_id"`
	Error  string `json:"error"`
	Hint   string `json:"hint"`
}

// PoolList is the answer of GET /v1/pools.
type PoolList struct {
	Pools    []Pool    `json:"pools"`
	Problems []Problem `json:"problems"`
}

// Answer is an HTTP answer, read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Get asks the API on the unix socket, over a connection of its own.
func (h *Host) Get(ctx context.Context, path string) (Answer, error) {
	return h.Do(ctx, http.MethodGet, path, nil)
}

// Do makes any request on the unix socket, with headers.
func (h *Host) Do(ctx context.Context, method, path string, header http.Header) (Answer, error) {
	return do(ctx, h.unix, method, "http://localhost"+path, header)
}

// DoTCP makes any request on 127.0.0.1:9200 inside the machine.
func (h *Host) DoTCP(ctx context.Context, method, path string, header http.Header) (Answer, error) {
	return do(ctx, h.tcp, method, "http://"+TCPAddress+path, header)
}

func do(ctx context.Context, c *http.Client, method, url string, header http.Header) (Answer, error) {
	return ask(ctx, c, method, url, header, "")
}

func ask(ctx context.Context, c *http.Client, method, url string, header http.Header, body string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := c.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, url, err)
	}
	return Answer{resp.StatusCode, resp.Header, got}, nil
}

// Send makes a request with a JSON body on the unix socket; an empty body is none.
func (h *Host) Send(ctx context.Context, method, path, body string) (Answer, error) {
	return ask(ctx, h.unix, method, "http://localhost"+path, http.Header{"Content-Type": {"application/json"}}, body)
}

// get reads a JSON answer with status 200.
func (h *Host) get(ctx context.Context, path string, into any) error {
	a, err := h.Get(ctx, path)
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("GET %s: status %d: %s", path, a.Status, a.Body)
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("GET %s: %w in %s", path, err, a.Body)
	}
	return nil
}

// Pools returns the list of pools.
func (h *Host) Pools(ctx context.Context) (PoolList, error) {
	var list PoolList
	err := h.get(ctx, "/v1/pools", &list)
	return list, err
}

// Pool returns one pool.
func (h *Host) Pool(ctx context.Context, id string) (Pool, error) {
	var p Pool
	err := h.get(ctx, "/v1/pools/"+id, &p)
	return p, err
}

// Engine makes a request to the engine of a pool's first replica, at the endpoint that the API
// returns.
func (h *Host) Engine(ctx context.Context, id, method, path string, body io.Reader) (Answer, error) {
	p, err := h.Pool(ctx, id)
	if err != nil {
		return Answer{}, err
	}
	if len(p.Replicas) == 0 || p.Replicas[0].Endpoint == "" {
		return Answer{}, fmt.Errorf("%s has no endpoint", p)
	}
	return h.AtEndpoint(ctx, p.Replicas[0].Endpoint, method, path, body)
}

// AtEndpoint makes a request to an address inside the machine, "http://127.0.0.1:PORT".
func (h *Host) AtEndpoint(ctx context.Context, endpoint, method, path string, body io.Reader) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, endpoint+path, body)
	if err != nil {
		return Answer{}, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: h.M.DialContext}}
	resp, err := client.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return Answer{resp.StatusCode, resp.Header, data}, err
}
