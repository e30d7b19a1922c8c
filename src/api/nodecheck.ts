/** Rules between the fields of a Node. */
import type { Cause } from '../lib/errors.ts'
import { invalid } from './causes.ts'
import type { Rule } from './check.ts'
import { checkQuantity, checkUnique } from './check.ts'
import { checkTaintKey } from './modeldeploymentcheck.ts'
import type { Node } from './node.ts'

export const nodeRules: readonly Rule<Node>[] = [
  { reads: ['spec.systemReserve'], check: ({ spec }) => checkQuantity('spec.systemReserve', spec?.systemReserve, 0) },
  {
    reads: ['spec.taints'],
    check: ({ spec }) => [
      ...(spec?.taints ?? []).flatMap((taint, index) => checkTaintKey(`spec.taints[${index}]`, taint)),
      ...checkUnique('spec.taints', spec?.taints, (taint) => `${taint.key}:${taint.effect}`),
    ],
  },
  {
    reads: ['status.capacity'],
    check: ({ status }) => [
      ...checkQuantity('status.capacity.memory', status?.capacity?.memory),
      ...checkQuantity('status.capacity.gpuMemory', status?.capacity?.gpuMemory, 0),
    ],
  },
  {
    reads: ['status.allocatable'],
    check: ({ status }) => checkQuantity('status.allocatable.memory', status?.allocatable?.memory, 0),
  },
  { reads: ['status.bound'], check: ({ status }) => checkQuantity('status.bound.memory', status?.bound?.memory, 0) },
  {
    reads: ['status.engines'],
    check: ({ status }) => checkUnique('status.engines', status?.engines, (engine) => engine.name),
  },
  { reads: ['status.links', 'metadata.name'], check: (node) => checkLinks(node) },
  {
    reads: ['status.conditions'],
    check: ({ status }) => checkUnique('status.conditions', status?.conditions, (condition) => condition.type),
  },
]

/** Several links to one peer are right (several cables); a link to itself is not. */
const checkLinks = ({ metadata, status }: Node): Cause[] =>
  (status?.links ?? []).flatMap((link, index) =>
    link.peer === metadata.name ? [invalid(`status.links[${index}].peer`, link.peer, 'must be another node')] : [],
  )
