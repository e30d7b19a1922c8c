/**
 * What has to be done so that every cable to another node has the addresses that the server gave it: the port out of
 * its bridge, the address on it. All of it is of the running system alone: a reboot undoes it. What people had set is
 * written down before it is changed, so that undoing finds it again, and nothing of theirs is ever taken away for good.
 *
 * Looks at the state and never at what was done before: again after a crash, a moved cable or a port that macOS put
 * back, it says just what is missing. Pure; doing (configure.ts) makes no choices.
 */
import type { NodeCable } from '../../src/api/node.ts'
import { isLinkLocal, netmaskOf, overlap, parseCidr } from '../../src/lib/ipv4.ts'
import type { Bridge, LinkPort, LinkScene } from './scene.ts'

/** What we changed on this machine since it started, and how it was. */
export interface LinkRecord {
  /** Another one: the machine has started anew, and nothing of this is so any more. */
  readonly bootId: string
  /** Addresses that we gave, and no others. */
  readonly given: readonly { readonly interface: string; readonly address: string }[]
  /** Ports that we switched on. */
  readonly raised: readonly string[]
  /** How bridges were before we took these members out of them. */
  readonly bridges: readonly {
    readonly name: string
    readonly up: boolean
    readonly members: readonly string[]
    readonly addresses: readonly string[]
  }[]
}

export type LinkWish = { readonly kind: 'Set'; readonly cables: readonly NodeCable[] } | { readonly kind: 'Undo' }

export interface LinkStep {
  readonly argv: readonly string[]
  readonly why: string
}

/** What is not done, why, and what people can do about it. */
export interface LinkRefusal {
  readonly reason: 'ServerOverBridge' | 'GangOverBridge' | 'AddressTaken'
  readonly message: string
}

export interface LinkPlan {
  /** To be written down before the first step. */
  readonly record: LinkRecord
  readonly steps: readonly LinkStep[]
  readonly refusals: readonly LinkRefusal[]
  /** Cables that are plugged in here and are to have addresses. */
  readonly cables: readonly NodeCable[]
}

export interface LinkInput {
  readonly scene: LinkScene
  readonly wish: LinkWish
  /** Of an earlier pass; of another boot it counts for nothing. */
  readonly record: LinkRecord | undefined
  readonly bootId: string
  /** Own address on the way to the server. */
  readonly ownAddress: string
  /** Addresses that gangs which run now use. */
  readonly inUse: readonly string[]
}

export const emptyRecord = (bootId: string): LinkRecord => ({ bootId, given: [], raised: [], bridges: [] })

export const isEmptyRecord = ({ given, raised, bridges }: LinkRecord): boolean =>
  given.length + raised.length + bridges.length === 0

interface Wanted {
  readonly port: LinkPort
  readonly cable: NodeCable
}

export function planThunderbolt(input: LinkInput): LinkPlan {
  const { scene, wish, bootId } = input
  const before = input.record?.bootId === bootId ? input.record : emptyRecord(bootId)
  const plugged = wish.kind === 'Undo' ? [] : pluggedIn(scene, wish.cables)
  const refused = plugged.map((wanted) => refusalOf(wanted, input, before))
  const wanted = plugged.filter((_, i) => refused[i] === undefined)
  const record = wish.kind === 'Undo' ? stillSet(before, scene) : remembered(before, scene, wanted)
  return {
    record,
    steps: [
      ...staleAddresses(record, scene, wanted),
      ...(wish.kind === 'Undo' ? givenBack(record, scene) : takenOut(wanted)),
      ...bridgeStates(record, scene, wish, wanted),
      ...(wish.kind === 'Undo' ? bridgeAddresses(record, scene) : portAddresses(wanted)),
    ],
    refusals: refused.filter((refusal) => refusal !== undefined),
    cables: wanted.map(({ cable }) => cable),
  }
}

/** The server's word counts for the very cable that it is about: ports are known by their UUIDs, at both ends. */
const pluggedIn = ({ ports }: LinkScene, cables: readonly NodeCable[]): readonly Wanted[] =>
  cables.flatMap((cable) => {
    const port = ports.find(
      ({ domainUuid, peerDomainUuid }) => domainUuid === cable.domainUuid && peerDomainUuid === cable.peerDomainUuid,
    )
    return port === undefined ? [] : [{ port, cable }]
  })

function refusalOf({ port, cable }: Wanted, input: LinkInput, before: LinkRecord): LinkRefusal | undefined {
  const { scene, ownAddress, inUse } = input
  const bridge = scene.bridges.find(({ name }) => name === port.bridge)
  const has = (address: string) => bridge?.addresses.some((cidr) => parseCidr(cidr)?.address === address) === true
  if (bridge !== undefined && has(ownAddress))
    return {
      reason: 'ServerOverBridge',
      message: `${port.name} (${port.interface}) stays in ${bridge.name}: the server is reached over it (from ${ownAddress}), and would be lost. Connect this Mac and the server by Ethernet or Wi-Fi and name that address with --server`,
    }
  if (bridge !== undefined && inUse.some(has))
    return {
      reason: 'GangOverBridge',
      message: `${port.name} (${port.interface}) stays in ${bridge.name} while a gang that runs here may use it, and is taken out when it has ended (\`mctl drain\` this node, or \`mctl rollout restart\`)`,
    }
  const clash = scene.networks.find(
    (network) =>
      overlap(network.address, cable.address) &&
      !(network.interface === port.interface && network.address === cable.address) &&
      !before.given.some((own) => own.interface === network.interface && own.address === network.address),
  )
  if (clash === undefined) return undefined
  return {
    reason: 'AddressTaken',
    message: `${port.name} (${port.interface}) does not get ${cable.address}: ${clash.interface} has ${clash.address} there. The server gives another one when it hears of that network`,
  }
}

// ---- what is written down

/** What we are about to change is added, as it is now; what is no more so, by somebody else's hand, is left out. */
function remembered(before: LinkRecord, scene: LinkScene, wanted: readonly Wanted[]): LinkRecord {
  const kept = before.given.filter((own) => isSet(scene, own) || isWanted(wanted, own))
  const added = wanted
    .map(({ port, cable }) => ({ interface: port.interface, address: cable.address }))
    .filter((own) => !isSet(scene, own) && !kept.some((other) => isSame(own, other)))
  const raised = wanted.flatMap(({ port }) => (port.up ? [] : [port.interface]))
  const touched = scene.bridges.filter(({ name }) => wanted.some(({ port }) => port.bridge === name))
  const known = new Set(before.bridges.map(({ name }) => name))
  const fresh = touched
    .filter(({ name }) => !known.has(name))
    .map(({ name, up, addresses }) => ({ name, up, addresses, members: [] as readonly string[] }))
  return {
    ...before,
    given: [...kept, ...added],
    raised: [...new Set([...before.raised, ...raised])],
    bridges: [...before.bridges, ...fresh].map((bridge) => ({
      ...bridge,
      members: [...new Set([...bridge.members, ...membersTaken(bridge.name, wanted)])],
    })),
  }
}

const membersTaken = (bridge: string, wanted: readonly Wanted[]): readonly string[] =>
  wanted.flatMap(({ port }) => (port.bridge === bridge ? [port.interface] : []))

/** What undoing still has to look at. */
function stillSet(before: LinkRecord, scene: LinkScene): LinkRecord {
  return { ...before, given: before.given.filter((own) => isSet(scene, own)) }
}

type Given = LinkRecord['given'][number]

const isSame = (a: Given, b: Given): boolean => a.interface === b.interface && a.address === b.address
const isSet = ({ networks }: LinkScene, own: Given): boolean => networks.some((network) => isSame(network, own))
const isWanted = (wanted: readonly Wanted[], { interface: name, address }: Given): boolean =>
  wanted.some(({ port, cable }) => port.interface === name && cable.address === address)

// ---- steps

const step = (why: string, ...argv: readonly string[]): LinkStep => ({ argv, why })

/** Ours, on a port whose cable is gone or has another address. First of all: the same address may come to another port. */
const staleAddresses = (record: LinkRecord, scene: LinkScene, wanted: readonly Wanted[]): readonly LinkStep[] =>
  record.given
    .filter((own) => isSet(scene, own) && !isWanted(wanted, own))
    .map(({ interface: name, address }) =>
      step(
        `no cable here has ${address} any more`,
        'ifconfig',
        name,
        'inet',
        parseCidr(address)?.address ?? '',
        '-alias',
      ),
    )

const takenOut = (wanted: readonly Wanted[]): readonly LinkStep[] =>
  wanted.flatMap(({ port, cable }) =>
    port.bridge === undefined
      ? []
      : [
          step(
            `the cable of ${port.name} to ${cable.peer} gets addresses of its own`,
            ...['ifconfig', port.bridge, 'deletem', port.interface],
          ),
        ],
  )

function portAddresses(wanted: readonly Wanted[]): readonly LinkStep[] {
  return wanted.flatMap(({ port, cable }) => {
    const { address = '', length = 32 } = parseCidr(cable.address) ?? {}
    return [
      ...(port.up ? [] : [step(`${port.name} is switched off`, 'ifconfig', port.interface, 'up')]),
      ...(port.addresses.includes(cable.address)
        ? []
        : [
            step(
              `${port.name} leads to ${cable.peer} (${parseCidr(cable.peerAddress)?.address})`,
              // Beside what people may have set there.
              ...['ifconfig', port.interface, 'inet', address, 'netmask', netmaskOf(length), 'alias'],
            ),
          ]),
    ]
  })
}

/** A bridge without a member that leads anywhere is off, as MLX's RDMA needs it; else it is as it was. */
function bridgeStates(record: LinkRecord, scene: LinkScene, wish: LinkWish, wanted: readonly Wanted[]) {
  return record.bridges.flatMap((was): readonly LinkStep[] => {
    const now = scene.bridges.find(({ name }) => name === was.name)
    if (now === undefined) return []
    const isUp = was.up && (wish.kind === 'Undo' || isNeeded(now, scene, wanted))
    if (isUp === now.up) return []
    return isUp
      ? [step(wish.kind === 'Undo' ? 'as it was before' : 'a member of it leads somewhere', 'ifconfig', now.name, 'up')]
      : [step('none of its members leads anywhere', 'ifconfig', now.name, 'down')]
  })
}

/** By a member that stays: Ethernet, or a Mac that is no node or must be reached this way. */
const isNeeded = ({ members }: Bridge, { ports }: LinkScene, wanted: readonly Wanted[]): boolean =>
  members.some((member) => {
    if (wanted.some(({ port }) => port.interface === member)) return false
    const port = ports.find((each) => each.interface === member)
    return port === undefined || port.peerDomainUuid !== undefined
  })

/** Members go back into bridges that are still there, unless somebody put them elsewhere; what we switched on goes off. */
function givenBack(record: LinkRecord, { ports, bridges }: LinkScene): readonly LinkStep[] {
  const isFree = (member: string) => ports.some((port) => port.interface === member && port.bridge === undefined)
  return [
    ...record.bridges
      .filter(({ name }) => bridges.some((bridge) => bridge.name === name))
      .flatMap(({ name, members }) =>
        members.filter(isFree).map((member) => step('as it was before', 'ifconfig', name, 'addm', member)),
      ),
    ...record.raised
      .filter((name) => ports.some((port) => port.interface === name && port.up))
      .map((name) => step('as it was before', 'ifconfig', name, 'down')),
  ]
}

/** What people gave the bridge is there again; what macOS gave it comes by itself. */
const bridgeAddresses = (record: LinkRecord, { bridges }: LinkScene): readonly LinkStep[] =>
  record.bridges.flatMap(({ name, up, addresses }) => {
    const now = bridges.find((bridge) => bridge.name === name)
    const lost = addresses.filter((cidr) => !isLinkLocal(cidr) && now?.addresses.includes(cidr) === false)
    const steps = lost.map((cidr) => {
      const { address = '', length = 32 } = parseCidr(cidr) ?? {}
      return step('as it was before', 'ifconfig', name, 'inet', address, 'netmask', netmaskOf(length), 'alias')
    })
    // An address switches its interface on.
    return steps.length === 0 || up ? steps : [...steps, step('as it was before', 'ifconfig', name, 'down')]
  })
