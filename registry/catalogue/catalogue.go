// Package catalogue has the messages of the log that administrators filter for: each has an id of
// its own (MESSAGE_ID= in the journal, message_id in JSON), which stays the same when the sentence
// changes, and a text for journalctl -x.
//
// It owns the ids and their texts. It must not know when a message is logged.
package catalogue

// Key is the attribute of a log line that has the id.
const Key = "message_id"

// The ids. They never change, and one that is no longer logged is not given to another message.
const (
	PoolReady        = "0783d784214a4d6ba3ffbfe12e23ce80"
	PoolUnready      = "4b7a9cc0293344cea96f4a42cb17530d"
	EngineEnded      = "d7c3a8ba02904559ba52ef7be96d9808"
	EngineStorm      = "81ba67e9757b47a89368a1ab732cc069"
	BreakerOpened    = "481facbf9de245b6a1eaf3a48507c52c"
	BreakerClosed    = "6d6b2d3320c24f0c8d5d301508d0d8d1"
	GPUUnusable      = "2e438c786d82465c9bf3d7b52fde4a7a"
	GPUBack          = "544ebd3ccf3642f698291ffe01ad70de"
	DrainDone        = "efb96ef37cbf4c9cae3a866d1be432a2"
	DrainCut         = "d40fb78e69514496bb88ed80b49ff70b"
	ReloadRolledBack = "b41cc5cf17ae4fd7967fb5a3320c307a"
	FileRefused      = "51ec1ad4643c4ef4aa352b2dcd6a8b04"
	AccessRefused    = "bd4bdd183d304e61bff5085d33c2e3b2"
	Adopted          = "43e3c9d3091f4fbc9ed86b1b1f62faf5"
	StateReplaced    = "2a006f694d634ea79e63b0e331a5e019"
	DownloadFailed   = "1e2554afdf9b4b56802ced90d2c4ffd7"
	ChangeRequested  = "2d379ba804bf4f109f6da55397d3a36b"
	LeasesCounted    = "24348c11307c4072b5cce7ea89c31c60"
)

// Message is one of them. In its texts, @FIELD@ is a field of the entry.
type Message struct {
	ID      string
	Name    string // of the constant
	Subject string // one line
	Text    string // what it means, and what to do
	Page    string // of the manual
}

// Messages are all of them.
func Messages() []Message {
	return []Message{
		{PoolReady, "PoolReady", "Pool @POOL_ID@ is ready",
			"An engine of the pool answers, on the devices that it was given, and takes requests. REASON= is why it\n" +
				"was not ready before.", "poolctl(1)"},
		{PoolUnready, "PoolUnready", "Pool @POOL_ID@ is not ready",
			"No engine of the pool takes requests. It may be stopped, loading, or have failed; STATE= has which, and\n" +
				"LAST_ERROR= and HINT= have the failure, if there was one. To see what the manager does about it:\n\n" +
				"    poolctl explain @POOL_ID@", "pool-managerd-failures(7)"},
		{EngineEnded, "EngineEnded", "An engine of pool @POOL_ID@ ended: @LAST_ERROR@",
			"The process of replica @REPLICA_ID@ ended by itself. LINES= has the most informative of its last log lines,\n" +
				"UPTIME_MS= how long it ran. It is started again after BACKOFF_MS=. All that it logged:\n\n" +
				"    poolctl logs @POOL_ID@", "pool-managerd-failures(7)"},
		{EngineStorm, "EngineStorm", "An engine of pool @POOL_ID@ restarts too often",
			"Replica @REPLICA_ID@ had @COUNT@ failures within a short time, and its restarts are delayed. The cause is\n" +
				"mostly the same one: LAST_ERROR= of the entries before this one.", "pool-managerd-failures(7)"},
		{BreakerOpened, "BreakerOpened", "An engine of pool @POOL_ID@ failed too often; its breaker is open",
			"Replica @REPLICA_ID@ is not started until the breaker's time is over. Then one start is tried. Once the\n" +
				"cause is fixed, this starts it at once:\n\n    poolctl reset @POOL_ID@", "pool-managerd-failures(7)"},
		{BreakerClosed, "BreakerClosed", "The breaker of an engine of pool @POOL_ID@ is closed",
			"Replica @REPLICA_ID@ ran long enough, or an operator reset its failures. It is restarted as usual.",
			"poolctl(1)"},
		{GPUUnusable, "GPUUnusable", "GPU @DEVICE@ is not healthy: @HEALTH@",
			"LAST_ERROR= has the driver's error. Pools that use the GPU are stopped or not started while it is lost or\n" +
				"needs a reset; one that is degraded is used. HINT= says what to do.\n\n    poolctl devices", "pool-gpu(8)"},
		{GPUBack, "GPUBack", "GPU @DEVICE@ is healthy again",
			"Pools that wait for it are started.", "pool-gpu(8)"},
		{DrainDone, "DrainDone", "An engine of pool @POOL_ID@ is drained",
			"Replica @REPLICA_ID@ has no leases and no requests left, and is stopped. After poolctl drain the pool stays\n" +
				"stopped until:\n\n    poolctl resume @POOL_ID@", "poolctl(1)"},
		{DrainCut, "DrainCut", "Requests of pool @POOL_ID@ were cut by the deadline of a drain",
			"Replica @REPLICA_ID@ still had leases or requests when the deadline was over, and is stopped all the same.\n" +
				"A longer deadline is drain.deadline in the pool's file, or --deadline.", "pool-file(5)"},
		{ReloadRolledBack, "ReloadRolledBack", "A reload of pool @POOL_ID@ failed; the former version is in force",
			"LAST_ERROR= has why the new version could not serve, and HINT= what to do. The pool serves as before.",
			"poolctl(1)"},
		{FileRefused, "FileRefused", "A configuration file is refused",
			"The entry names the file, the line and the key. Pools of a file that is wrong run as they did before, and\n" +
				"nothing else is affected. To check the files without an effect:\n\n    poolctl check", "pool-file(5)"},
		{AccessRefused, "AccessRefused", "A file of the API's access cannot be used",
			"The file of tokens or of the certificate is missing, damaged, or readable by others. After a reload the\n" +
				"former ones stay in force; at a start no token is accepted over TCP. The unix sockets work.",
			"pool-managerd.toml(5)"},
		{Adopted, "Adopted", "The manager knows all engines that ran before it",
			"Engines survive the manager. It has read their units from PID 1 and goes on with them; it answers requests\n" +
				"from now.", "pool-managerd(8)"},
		{StateReplaced, "StateReplaced", "A file of the manager's state was damaged, deleted or replaced",
			"What could be read was kept, and the file was written again. Find out which program or which fault of the\n" +
				"disk did that. Engines are not affected. MOVED_TO= is the former file, if it was kept.",
			"pool-managerd(8)"},
		{DownloadFailed, "DownloadFailed", "The download of @MODEL_ID@ failed",
			"HINT= says what to do. With RETRY_IN_MS= it is tried again by itself; without, it is not, until the pool\n" +
				"is reset or the model is asked for again.", "pool-file(5)"},
		{ChangeRequested, "ChangeRequested", "@IDENTITY@ requested a change: @OPERATION@",
			"A caller of the API asked for a change; STATUS= is how it was answered (202 and 200: it is carried out,\n" +
				"401 and 403: the caller may not). CORRELATION_ID= is that of the answer, and of the caller's own log.",
			"pool-managerd(8)"},
		{LeasesCounted, "LeasesCounted", "@IDENTITY@ took and released leases",
			"Leases are counted by caller and minute, since there may be thousands a second. At log level debug each is\n" +
				"an entry.", "pool-managerd(8)"},
	}
}
