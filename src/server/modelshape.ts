/**
 * A model's shape as an agent read it from the files' headers, kept as the system's own Model object. Written only when
 * it says something new; two nodes with different files of one name do not write back and forth.
 */
import { causeText } from '../api/causes.ts'
import type { Manifest } from '../api/meta.ts'
import { API_VERSION } from '../api/meta.ts'
import type { Model } from '../api/model.ts'
import { systemModelName } from '../api/modelname.ts'
import { validate } from '../api/validate.ts'
import { OpError } from '../lib/errors.ts'
import type { AgentMessage } from '../rpc/messages.ts'
import { createObject, setStatus } from '../store/objects.ts'
import type { Tx } from '../store/store.ts'

export type ReportedShape = Extract<AgentMessage, { type: 'ModelShape' }>

export type ShapeResult =
  | { readonly result: 'written' | 'known'; readonly model: Model }
  /** Another node holds the files of the recorded digest: that one stands, this node is refused by its own digest. */
  | { readonly result: 'differs'; readonly model: Model; readonly holder: string }

/** OpError Invalid when the shape contradicts itself or the source is none. */
export function recordShape(tx: Tx, node: string, { source, digest, shape }: ReportedShape): ShapeResult {
  const name = systemModelName(source)
  const standing = tx.get('Model', '', name)
  const known = standing?.status?.digest
  if (standing !== undefined && known !== undefined && known !== digest) {
    const holder = otherHolder(tx, node, source, known)
    if (holder !== undefined) return { result: 'differs', model: standing, holder }
  }
  const model = standing ?? createModel(tx, name, source)
  const status = { ...model.status, shape, digest }
  const causes = validate({ ...model, status } as unknown as Manifest)
  if (causes.length > 0)
    throw new OpError('Invalid', `shape of ${source}: ${causes.map(causeText).join(', ')}`, { causes })
  const written = setStatus(tx, model, status)
  return { result: written === standing ? 'known' : 'written', model: written }
}

const createModel = (tx: Tx, name: string, source: string): Model =>
  createObject(tx, { apiVersion: API_VERSION, kind: 'Model', metadata: { name }, spec: { source } } as const).object

const otherHolder = (tx: Tx, node: string, source: string, digest: string): string | undefined =>
  tx
    .list('Node')
    .find(
      ({ metadata, status }) =>
        metadata.name !== node &&
        status?.models?.some((m) => m.source === source && m.digest === digest && m.state === 'Present') === true,
    )?.metadata.name
