/**
 * What stands in the cluster beside what an apply would make of it, as text: `mctl diff` and `mctl apply --diff`. Left out
 * is what the server keeps for itself (status, managers, versions): it says nothing of what is wanted.
 */
import type { KindName } from '../../api/kinds.ts'
import type { Manifest, MctlObject } from '../../api/meta.ts'
import { API_VERSION } from '../../api/meta.ts'
import { isOpError } from '../../lib/errors.ts'
import type { Client } from '../../rpc/messages.ts'
import { render } from '../printers/render.ts'
import { refOf } from '../targets.ts'

/** Both sides of one object; an absent one is ''. */
export interface Sides {
  /** Name of the file on both sides, as kubectl names it. */
  readonly name: string
  readonly live: string
  readonly merged: string
}

export const sidesOf = (live: MctlObject | undefined, merged: MctlObject | undefined, showManagers = false): Sides => ({
  name: fileName(merged ?? live),
  live: textOf(live, showManagers),
  merged: textOf(merged, showManagers),
})

const fileName = (object: MctlObject | undefined): string => {
  const { name = '', namespace = '' } = object?.metadata ?? {}
  return `${API_VERSION.replace('/', '.')}.${object?.kind ?? ''}.${namespace}.${name}`
}

function textOf(object: MctlObject | undefined, showManagers: boolean): string {
  if (object === undefined) return ''
  const { status: _status, ...rest } = object
  const {
    uid: _u,
    resourceVersion: _r,
    generation: _g,
    creationTimestamp: _c,
    managedFields,
    ...metadata
  } = object.metadata
  const shown = showManagers && managedFields !== undefined ? { ...metadata, managedFields } : metadata
  return render({ ...rest, metadata: shown }, 'yaml')
}

/** A unified diff; '' when both sides are the same. */
export async function unifiedDiff({ name, live, merged }: Sides): Promise<string> {
  if (live === merged) return ''
  const { createTwoFilesPatch } = await import('diff')
  const patch = createTwoFilesPatch(`LIVE/${name}`, `MERGED/${name}`, live, merged, undefined, undefined, {
    context: 3,
  })
  return patch.replace(/^=+\n/, `diff -u -N LIVE/${name} MERGED/${name}\n`)
}

/** The object as it stands; undefined when it does not. */
export const liveOf = (client: Client, { kind, metadata }: Manifest): Promise<MctlObject | undefined> =>
  client.get({ ref: refOf(kind as KindName, metadata.name, metadata.namespace) }).then(
    ({ object }) => object,
    (error: unknown) => {
      if (isOpError(error, 'NotFound')) return undefined
      throw error
    },
  )
