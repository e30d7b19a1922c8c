/**
 * The shardhost: argv is the path of spec.json (protocol.ts). Started by the agent in its own session, it outlives the
 * agent and ends with its engine. SIGTERM and SIGINT stop the engine; if the host itself is killed, the engine notices.
 */
import { systemClock } from '../../src/lib/clock.ts'
import { startTimeOf } from '../../src/lib/process.ts'
import { Shardhost } from './shardhost.ts'
import { readSpec, takeClaim } from './statefile.ts'

const SIGNAL_GRACE_MS = 5000
/** The claim is another's: the shard was started before, or its agent has given the start up. */
const EXIT_CLAIMED = 3

const spec = readSpec(process.argv[2] ?? '')
const self = { pid: process.pid, startTime: startTimeOf(process.pid) ?? '' }
if (!takeClaim(spec.dir, self)) process.exit(EXIT_CLAIMED)
const host = new Shardhost(spec, self, systemClock)
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
  process.on(signal, () =>
    host.stop({ graceMs: SIGNAL_GRACE_MS, reason: `the shardhost got ${signal}` }, 'ShardhostTerminated'),
  )
await host.run()
process.exit(0)
