/**
 * `mctl drain`: asks that every group leaves a node, and tells how that goes until nothing runs there. The wish stands
 * on the Node: the cluster goes on with it when this command ends early, and asking again changes nothing.
 */
import { Option } from 'commander'
import { findCondition } from '../../api/conditions.ts'
import { qualifiedName } from '../../api/kinds.ts'
import type { Condition, MctlObject } from '../../api/meta.ts'
import type { Node } from '../../api/node.ts'
import type { ShardGroup } from '../../api/shardgroup.ts'
import { sleep } from '../../lib/clock.ts'
import { OpError, isOpError } from '../../lib/errors.ts'
import { leavingMessage } from '../../planner/drain.ts'
import type { Client, ObjectRef } from '../../rpc/messages.ts'
import type { Define } from '../commandform.ts'
import { examples } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { parseDurationMs } from '../durations.ts'
import { Failures } from '../errors.ts'
import { cordon, nodeCommand, nodesOf } from './cordon.ts'
import type { DryRun } from '../flags.ts'
import type { ObjectFlags } from './objects.ts'
import { dryRunOf, say } from './objects.ts'

export interface DrainFlags extends ObjectFlags {
  readonly gracePeriod?: string
  readonly podSelector?: string
  readonly disableEviction?: boolean
  readonly force?: boolean
  readonly timeout?: string
}

const POLL_MS = 200

export const defineDrain: Define = (command, cli, done) => {
  nodeCommand(
    command,
    examples('mctl drain mini-1 --dry-run=server', 'mctl drain mini-1 --force --timeout=10m', 'mctl uncordon mini-1'),
  )
    .option('--force', 'stop groups that fit on no other node, and take replicas away that should stay')
    .option('--timeout <duration>', 'how long to wait; 0: as long as it takes', '0')
    .addOption(habit('--grace-period <seconds>'))
    .addOption(habit('--pod-selector <labels>'))
    .addOption(habit('--disable-eviction'))
    // Always so: there is nothing of the kind here that a drain would have to be told of.
    .addOption(habit('--ignore-daemonsets'))
    .addOption(habit('--delete-emptydir-data'))
    .action(async (words: string[], flags: DrainFlags) => done(await drain(cli, words, flags)))
}

export async function drain(cli: Cli, words: readonly string[], flags: DrainFlags): Promise<number> {
  const foreign = foreignWish(flags)
  if (foreign !== undefined) throw new CliError(foreign)
  const dryRun = dryRunOf(flags)
  const timeoutMs = parseDurationMs(flags.timeout ?? '0')
  return withClient(cli, flags.server, async (client) => {
    const failures = new Failures(cli)
    const pending: Draining[] = []
    // All are cordoned before the first is waited for: nothing moves from one to the next.
    for (const ref of await nodesOf(client, words, 'drain', flags)) {
      const node = await failures.attempt(() => begin(cli, client, ref, { force: flags.force === true, dryRun }))
      if (node !== undefined) pending.push(new Draining(cli, ref, node as Node))
    }
    if (dryRun !== 'none') {
      for (const one of pending) await one.rehearse(client, dryRun)
      return failures.exitCode
    }
    const untilMs = timeoutMs > 0 ? cli.clock.monotonicMs() + timeoutMs : Infinity
    const left = await untilDrained(cli, client, pending, untilMs)
    if (left.length === 0) return failures.exitCode
    tellPending(cli, left, `drain did not complete within ${flags.timeout ?? '0'}`)
    return 1
  })
}

/** A flag of kubectl's that help need not list. */
const habit = (flags: string) => new Option(flags).hideHelp()

/** What kubectl's flags ask for and a drain here does otherwise: the way that there is. */
function foreignWish({ gracePeriod, podSelector, disableEviction }: DrainFlags): string | undefined {
  // Its default: as long as a planned stop takes.
  if (gracePeriod !== undefined && Number(gracePeriod) !== -1)
    return '--grace-period is no flag of a drain: a group that moves ends its requests first, as at every planned stop. To end one sooner: `mctl cordon NODE`, then `mctl delete sg NAME --grace-period SECONDS`'
  if (podSelector !== undefined)
    return '--pod-selector is no flag of a drain: it empties the node. To move some groups: `mctl cordon NODE`, then `mctl delete sg -l LABELS`; their deployments place them anew'
  if (disableEviction === true)
    return '--disable-eviction is no flag of a drain: `--force` takes replicas away that should stay, and stops what fits nowhere else'
  return undefined
}

interface How {
  readonly force: boolean
  readonly dryRun: DryRun
}

async function begin(cli: Cli, client: Client, ref: ObjectRef, { force, dryRun }: How): Promise<MctlObject> {
  const { object } = await client.get({ ref })
  return cordon(cli, client, object as Node & MctlObject, { dryRun, drain: { force } })
}

/** Those that are not drained when the time is over. */
async function untilDrained(
  cli: Cli,
  client: Client,
  nodes: readonly Draining[],
  untilMs: number,
): Promise<readonly Draining[]> {
  let left = nodes
  for (;;) {
    const still: Draining[] = []
    for (const node of left) if (!(await node.look(client))) still.push(node)
    left = still
    if (left.length === 0 || cli.clock.monotonicMs() >= untilMs) return left
    if (cli.signal.aborted) {
      cli.terminal.err(goesOn(left))
      throw new OpError('Cancelled', 'drain: interrupted')
    }
    await sleep(cli.clock, POLL_MS, cli.signal)
  }
}

function tellPending(cli: Cli, left: readonly Draining[], why: string): void {
  const { err } = cli.terminal
  for (const { name, groups } of left) {
    err(`There are pending groups in node "${name}" when an error occurred: ${why}\n`)
    for (const [group, message] of groups) err(`group/${group.split('/')[1] ?? group}: ${message}\n`)
    err(`error: unable to drain node "${name}" due to error: ${why}, continuing command...\n`)
  }
  err(`There are pending nodes to be drained:\n${left.map(({ name }) => ` ${name}\n`).join('')}`)
  err(`error: ${why}\n`)
  err(goesOn(left))
}

const goesOn = (left: readonly Draining[]): string =>
  `The drain goes on without this command: \`mctl drain ${left.map(({ name }) => name).join(' ')}\` tells of it again, \`mctl uncordon\` ends it, --force stops what fits nowhere else.\n`

/** One node, and what was told of the groups on it. */
class Draining {
  readonly name: string
  readonly #cli: Cli
  readonly #ref: ObjectRef
  readonly #generation: number
  readonly #force: boolean
  /** `name` → why it is still there, as it was told last. */
  readonly groups = new Map<string, string>()
  readonly #told = new Map<string, string>()

  constructor(cli: Cli, ref: ObjectRef, { metadata, spec }: Node) {
    this.#cli = cli
    this.#ref = ref
    this.#generation = metadata.generation
    this.#force = spec.drain?.force === true
    this.name = ref.name
  }

  /** Tells what has changed; true when nothing runs on the node any more. */
  async look(client: Client): Promise<boolean> {
    const node = await this.#node(client)
    const { spec, status, metadata } = node
    if (spec.drain === undefined && metadata.generation > this.#generation)
      throw new CliError(`node "${this.name}" is not being drained any more: somebody uncordoned it`)
    this.#tellGroups(await groupsOn(client, this.name))
    const drained = findCondition(status?.conditions, 'Drained')
    const isSeen = (drained?.observedGeneration ?? 0) >= this.#generation
    if (drained?.status !== 'True' || !isSeen) return false
    say(this.#cli, this.#ref, 'drained')
    return true
  }

  /** What would have to leave; whether it fits elsewhere only a drain can tell. */
  async rehearse(client: Client, dryRun: DryRun): Promise<void> {
    for (const group of await groupsOn(client, this.name))
      this.#cli.terminal.out(
        `evicting group ${fullName(group)}${dryRun === 'server' ? ' (server dry run)' : ' (dry run)'}\n`,
      )
    say(this.#cli, this.#ref, 'drained', dryRun)
  }

  async #node(client: Client): Promise<Node> {
    try {
      return (await client.get({ ref: this.#ref })).object as Node
    } catch (error) {
      if (isOpError(error, 'NotFound')) throw new CliError(`node "${this.name}" was deleted while it was drained`)
      throw error
    }
  }

  #tellGroups(here: readonly ShardGroup[]): void {
    const { out } = this.#cli.terminal
    const present = new Set(here.map(fullName))
    for (const name of [...this.groups.keys()].filter((known) => !present.has(known))) {
      this.groups.delete(name)
      out(`${qualifiedName('ShardGroup', name.split('/')[1] ?? name)} evicted\n`)
    }
    for (const group of here) {
      const name = fullName(group)
      if (!this.groups.has(name)) out(`evicting group ${name}\n`)
      this.groups.set(name, leavingMessage(group))
      this.#tellWhy(group)
    }
  }

  /** What keeps a group from leaving, and each step of its move; not every byte of a fetch. */
  #tellWhy(group: ShardGroup): void {
    const { err } = this.#cli.terminal
    const name = fullName(group)
    // What held it before it was forced is no news.
    const waits = group.spec.next === null && !this.#force
    const held = waits ? findCondition(group.status?.conditions, 'Leaving') : undefined
    const step = held ?? findCondition(group.status?.conditions, 'SuccessorPrepared')
    if (step === undefined || this.#told.get(name) === keyOf(step)) return
    this.#told.set(name, keyOf(step))
    if (held === undefined) err(`group ${name}: ${step.message}\n`)
    else
      err(
        `error when evicting groups/"${group.metadata.name}" -n "${group.metadata.namespace ?? ''}" (will retry): ${held.message}\n`,
      )
  }
}

const keyOf = ({ type, reason, message }: Condition): string =>
  type === 'Leaving' ? `${type} ${message}` : `${type} ${reason}`

const fullName = ({ metadata }: ShardGroup): string => `${metadata.namespace ?? ''}/${metadata.name}`

async function groupsOn(client: Client, node: string): Promise<readonly ShardGroup[]> {
  const { items } = await client.list({ kind: 'ShardGroup' })
  const isHere = ({ spec }: ShardGroup) =>
    [...spec.members, ...(spec.next?.members ?? [])].some((member) => member.node === node)
  return (items as readonly ShardGroup[]).filter(isHere)
}
