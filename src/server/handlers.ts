/** All calls of the server, put together from one file per group. `bin` gives the doors. */
import type { Clock, Random } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Handlers, PlanRequest } from '../rpc/messages.ts'
import type { Snapshot, Store } from '../store/store.ts'
import { checkPerson } from './trust/access.ts'
import { GatewayTraffic, liveCalls } from './live.ts'
import { logCalls } from './logs.ts'
import { readCalls } from './reads.ts'
import type { Sessions } from './sessions.ts'
import type { TrustAuthority } from './trust/authority.ts'
import { trustCalls } from './trust/join.ts'
import { rotationCalls } from './trust/rotation.ts'
import { speedCalls } from './speeds.ts'
import { statusCalls } from './status.ts'
import { versionCalls } from './version.ts'
import { watchCalls } from './watch.ts'
import { writeCalls } from './writes.ts'

export interface ServerDoors {
  readonly store: Store
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly sessions: Sessions
  /** The planner's answer to `mctl plan -f` against the live state; OpError Invalid for manifests that cannot be planned. */
  readonly planReport: (request: PlanRequest, snapshot: Snapshot) => unknown
  readonly serverVersion: string
  /** Base URL of the gateway; undefined: none yet. */
  readonly gatewayUrl: () => string | undefined
  /** Absent: the cluster has no identities and listens on loopback. */
  readonly authority?: TrustAuthority | undefined
  /** The last word of each gateway; absent: kept here alone. */
  readonly traffic?: GatewayTraffic | undefined
}

export function makeHandlers(doors: ServerDoors): Handlers {
  const traffic = doors.traffic ?? new GatewayTraffic(doors.clock)
  return {
    ...versionCalls(doors),
    ...writeCalls(doors),
    ...readCalls(doors),
    ...statusCalls(doors),
    ...watchCalls(doors),
    ...logCalls(doors),
    ...trustCalls(doors),
    ...rotationCalls({ ...doors, gateways: traffic }),
    ...speedCalls(doors, traffic),
    ...liveCalls(doors, traffic),
    async plan(request, { identity }) {
      checkPerson(identity, 'plan')
      return { report: await doors.planReport(request, doors.store.snapshot()) }
    },
    nodeSession: (messages, context) => doors.sessions.nodeSession(messages, context),
  }
}
