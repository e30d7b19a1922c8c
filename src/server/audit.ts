/** One audit line per write: who, what, on which object, with which result. Objects themselves are never logged. */
import { isOpError } from '../lib/errors.ts'
import type { Logger } from '../lib/log.ts'
import type { MctlObject } from '../api/meta.ts'
import type { Identity } from '../rpc/messages.ts'

export interface AuditedWrite {
  readonly identity: Identity
  readonly verb: string
  /** What the request names; a uid alone for status. */
  readonly target: {
    readonly kind?: string
    readonly namespace?: string
    readonly name?: string
    readonly uid?: string
  }
  readonly dryRun?: boolean
}

/** Runs the write and logs how it ended; its error goes on to the caller. */
export async function audited<T extends { readonly object: MctlObject }>(
  log: Logger,
  { identity, verb, target, dryRun }: AuditedWrite,
  write: () => Promise<T>,
): Promise<T> {
  const facts = { user: identity.user, verb, ...target, ...(dryRun === true && { dryRun }) }
  try {
    const result = await write()
    const { kind, metadata } = result.object
    const { namespace, name, resourceVersion: revision } = metadata
    log.info('audit', {
      ...facts,
      kind,
      ...(namespace !== undefined && { namespace }),
      name,
      revision,
      decision: 'allowed',
    })
    return result
  } catch (error) {
    log.info('audit', { ...facts, decision: 'refused', reason: isOpError(error) ? error.code : 'Internal' })
    throw error
  }
}
