/** Addresses of Thunderbolt links on this very machine, kept or looked at. Not verified on hardware. */
import type { Node, NodeCable } from '../../src/api/node.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { OpError } from '../../src/lib/errors.ts'
import type { Logger } from '../../src/lib/log.ts'
import type { Client } from '../../src/rpc/messages.ts'
import type { Firewall } from '../firewall.ts'
import { machineDoors } from '../observe/doors.ts'
import { systemInterfaces } from '../observe/ports.ts'
import type { ThunderboltDoors } from './configure.ts'
import { checkThunderbolt } from './command.ts'
import { changeDoor } from './door.ts'
import { ThunderboltKeeper } from './keeper.ts'
import { linkRecordFile } from './record.ts'

export const thunderboltDoors = (dataDir: string): ThunderboltDoors => ({
  runText: machineDoors.runText,
  change: changeDoor(),
  record: linkRecordFile(dataDir),
})

const TIMEOUT_MS = 5_000

/** What the server gave the node's cables; undefined: it has not heard of its ports yet. Rejects when it does not answer. */
export async function cablesOf(client: Client, node: string): Promise<readonly NodeCable[] | undefined> {
  const { object } = await client.get({ ref: { kind: 'Node', namespace: '', name: node } }, { timeoutMs: TIMEOUT_MS })
  const { ports, cables = [] } = (object as Node).status ?? {}
  return ports === undefined ? undefined : cables
}

/** Before an agent takes anything: OpError Invalid where it cannot keep addresses. */
export function checkKeeping(isSimulated: boolean): void {
  checkThunderbolt({ platform: process.platform, isRoot: process.getuid?.() === 0 }, false)
  if (isSimulated)
    throw new OpError('Invalid', 'set addresses of Thunderbolt links: a simulated node has no cables of its own')
}

export interface KeepingOptions {
  readonly name: string
  readonly dataDir: string
  readonly client: Client
  /** Own address on the way to the server. */
  readonly address: string
  readonly isJoined: boolean
  readonly firewall: Pick<Firewall, 'members'>
  readonly log: Logger
}

export function thunderboltKeeper({
  name,
  dataDir,
  client,
  address,
  isJoined,
  firewall,
  log,
}: KeepingOptions): ThunderboltKeeper {
  if (!isJoined)
    throw new OpError(
      'Invalid',
      'set addresses of Thunderbolt links: this cluster has no identities, so it is on one machine only. Start the server with --listen on an address of the network, and join with a token',
    )
  return new ThunderboltKeeper({
    doors: thunderboltDoors(dataDir),
    cables: () => cablesOf(client, name).catch(() => undefined),
    ownAddress: address,
    inUse: () => firewall.members(),
    interfaces: systemInterfaces,
    clock: systemClock,
    log,
  })
}
