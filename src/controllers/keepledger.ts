/** The ledger's promise at the moment of writing: bound follows every binding, and nothing raises it over allocatable. */
import type { NodeStatus } from '../api/node.ts'
import { assert } from '../lib/errors.ts'
import { quantityOf } from '../lib/quantity.ts'
import { raisesOverAllocatable } from '../planner/check.ts'
import { boundBytes } from '../planner/ledger.ts'
import { setStatus } from '../store/objects.ts'
import type { Tx } from '../store/store.ts'
import { worldOf } from './world.ts'

/** Runs `write`; when it touches groups or shards, Node.status.bound is rewritten where it changed. */
export function keepLedger(tx: Tx, touched: boolean, write: () => void): void {
  if (!touched) return write()
  const before = worldOf(tx, new Map())
  write()
  const after = worldOf(tx, new Map())
  const findings = raisesOverAllocatable(before, after)
  assert(findings.length === 0, `a plan would oversell a node: ${JSON.stringify(findings)}`)

  const [was, is] = [boundBytes(before), boundBytes(after)]
  for (const node of tx.list('Node')) {
    const { name } = node.metadata
    if (was.get(name) === is.get(name)) continue
    const status: NodeStatus = { ...node.status, bound: { memory: quantityOf(is.get(name) ?? 0) } }
    setStatus(tx, node, status)
  }
}
