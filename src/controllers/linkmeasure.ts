/**
 * The loop that has links measured: one key. A pass starts what is due over the agents' sessions and does not wait; what
 * comes back wakes it again. What was tried is kept here, for only news goes into the store.
 */
import { keyString, timestamp } from '../api/meta.ts'
import type { Node } from '../api/node.ts'
import type { LinkEnds, MeasurePlan, Tried } from '../planner/links/measure.ts'
import { afterMeasurement, endsKey, planMeasurements } from '../planner/links/measure.ts'
import { recordActions } from '../planner/links/record.ts'
import { messageOf } from '../lib/errors.ts'
import type { Change } from '../store/store.ts'
import { flippedReady, isOfKind, sameButBound } from './changes.ts'
import type { ControllerDoors, Loop } from './controller.ts'
import { perform } from './perform.ts'

const MEASUREMENTS = keyString({ kind: 'LinkMeasurements', namespace: '', name: 'all' })

export function linkMeasureLoop(doors: ControllerDoors): Loop {
  const running = new Map<string, LinkEnds>()
  const tried = new Map<string, Tried>()
  let wake = () => {}

  const measure = async ({ port, ...ends }: MeasurePlan['start'][number]) => {
    const key = endsKey(ends)
    const { store, sessions, clock, log } = doors
    const { from, to, address, peerAddress } = ends
    try {
      const found = await sessions.measureLink(from, { peer: to, address, peerAddress, port })
      const last = afterMeasurement(tried.get(key), found, clock.nowMs())
      tried.set(key, last)
      if (found.kind !== 'Measured') log.info('link not measured', { from, to, address, ...found })
      await store.transact((tx) => {
        const measuredAt = timestamp(tx.nowMs)
        perform(tx, recordActions(tx.list('Node'), { ends, found, tried: last, measuredAt }))
      })
    } catch (error) {
      log.warn('a measurement of a link was not written', { from, to, error: messageOf(error) })
    } finally {
      running.delete(key)
      wake()
    }
  }

  return {
    name: 'linkmeasure',
    allKeys: () => [MEASUREMENTS],
    keysOf: (change) => (concerns(change) ? [MEASUREMENTS] : []),
    listen(wakeKey) {
      wake = () => wakeKey(MEASUREMENTS)
      return () => (wake = () => {})
    },
    reconcile() {
      const snapshot = doors.store.snapshot()
      const plan = planMeasurements({
        nodes: snapshot.list('Node'),
        shards: snapshot.list('Shard'),
        running: [...running.values()],
        tried,
        nowMs: doors.clock.nowMs(),
      })
      for (const link of plan.start) {
        running.set(endsKey(link), link)
        void measure(link)
      }
      return Promise.resolve(plan.waitMs)
    },
  }
}

/** Links, doors and readiness of nodes; a shard that went may leave its node quiet. */
function concerns(change: Change): boolean {
  const { object, previous, type } = change
  if (isOfKind(object, 'Shard')) return type !== 'ADDED'
  if (!isOfKind(object, 'Node')) return false
  return flippedReady(change) || !sameButBound(object, previous as Node | undefined)
}
