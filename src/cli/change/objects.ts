/** What scale, rollout, cordon and drain share: flags, dry runs, patches, and their sentences. */
import type { KindName } from '../../api/kinds.ts'
import { kinds, qualifiedName } from '../../api/kinds.ts'
import type { MctlObject } from '../../api/meta.ts'
import type { ModelDeployment } from '../../api/modeldeployment.ts'
import type { Client, ObjectRef, WriteReply } from '../../rpc/messages.ts'
import type { Cli } from '../context.ts'
import { CliError } from '../context.ts'
import type { DryRun } from '../flags.ts'
import { dryRunSuffix } from '../flags.ts'

export interface ObjectFlags {
  readonly server?: string
  readonly namespace?: string
  readonly filename?: readonly string[]
  readonly recursive?: boolean
  readonly all?: boolean
  readonly selector?: string
  readonly dryRun?: string
}

export function dryRunOf({ dryRun = 'none' }: Pick<ObjectFlags, 'dryRun'>): DryRun {
  if (dryRun === 'none' || dryRun === 'client' || dryRun === 'server') return dryRun
  throw new CliError(`Invalid dry-run value (${dryRun}). Must be "none", "server", or "client".`)
}

/** `modeldeployment.mctl.dev/x scaled` */
export function say(cli: Cli, ref: ObjectRef, what: string, dryRun: DryRun = 'none'): void {
  cli.terminal.out(`${qualifiedName(ref.kind, ref.name)} ${what}${dryRunSuffix(dryRun)}\n`)
}

/** A merge patch of the object that was read; nothing is sent in a client's dry run. */
export async function change(
  client: Client,
  ref: ObjectRef,
  object: MctlObject,
  { patch, type = 'merge', dryRun, exact = false }: Change,
): Promise<MctlObject> {
  if (dryRun === 'client') return object
  const { uid, resourceVersion } = object.metadata
  const reply: WriteReply = await client.patch({
    ref,
    type,
    patch,
    options: { fieldManager: 'mctl', dryRun: dryRun === 'server' },
    preconditions: exact ? { uid, resourceVersion } : { uid },
  })
  return reply.object
}

export interface Change {
  readonly patch: unknown
  readonly type?: 'merge' | 'json'
  readonly dryRun: DryRun
  /** Only if nobody has written the object since it was read. */
  readonly exact?: boolean
}

/** OpError or CliError; `refusal` says what cannot be done with objects of other kinds. */
export async function deploymentAt(
  client: Client,
  ref: ObjectRef,
  refusal: (kind: KindName, name: string) => string,
): Promise<ModelDeployment & MctlObject> {
  if (ref.kind !== 'ModelDeployment') throw new CliError(refusal(ref.kind as KindName, ref.name))
  const { object } = await client.get({ ref })
  return object as ModelDeployment & MctlObject
}

/** `nodes "mini-1" restarting is not supported` */
export const notSupported =
  (doing: string) =>
  (kind: KindName, name: string): string =>
    `${kinds[kind].plural} "${name}" ${doing} is not supported`
