/** Addresses of Thunderbolt cables on a Mac: the plan on what real Macs said, the doing on programs that keep state. */
import { afterEach, describe, expect, test } from 'vitest'
import type { Intent, ThunderboltDoors } from '../../../agent/thunderbolt/configure.ts'
import { lookAtThunderbolt, setThunderbolt } from '../../../agent/thunderbolt/configure.ts'
import { checkThunderbolt, reportSetting, undoThunderbolt } from '../../../agent/thunderbolt/command.ts'
import { ThunderboltKeeper } from '../../../agent/thunderbolt/keeper.ts'
import type { LinkInput, LinkRecord } from '../../../agent/thunderbolt/plan.ts'
import { emptyRecord, planThunderbolt } from '../../../agent/thunderbolt/plan.ts'
import type { LinkScene } from '../../../agent/thunderbolt/scene.ts'
import { sceneOf } from '../../../agent/thunderbolt/scene.ts'
import type { NodeCable } from '../../../src/api/node.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { Cabling } from '../../support/fakemac.ts'
import { FakeMac, MACBOOK, profileOf, recordedText } from '../../support/fakemac.ts'
import { until } from '../../support/processes.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

const one: Cabling = { 1: { own: 'A1' }, 2: { own: 'A2', peer: 'B2' }, 3: { own: 'A3' } }
const cable = (own: string, peer: string, subnet: string): NodeCable => ({
  peer: `mini-${peer[0]}`,
  domainUuid: own,
  peerDomainUuid: peer,
  address: `${subnet}1/30`,
  peerAddress: `${subnet}2/30`,
})
const toB = cable('A2', 'B2', '10.217.3.')
const ETHERNET = '192.168.2.46'
const textsOf = (cabling: Cabling) => ({
  setup: recordedText(MACBOOK.setup),
  ifconfig: recordedText(MACBOOK.ifconfig),
  profile: profileOf(cabling),
})
const scene = (cabling: Cabling): LinkScene => sceneOf(textsOf(cabling)) ?? { ports: [], bridges: [], networks: [] }
const inputOf = (more: Partial<LinkInput>): LinkInput => ({
  scene: scene(one),
  wish: { kind: 'Set', cables: [toB] },
  record: undefined,
  bootId: 'boot-1',
  ownAddress: ETHERNET,
  inUse: [],
  ...more,
})
const stepsOf = (more: Partial<LinkInput>) => planThunderbolt(inputOf(more)).steps.map(({ argv }) => argv.join(' '))

describe('what a real Mac says', () => {
  test('ports by receptacle, with both UUIDs and their bridge; networks that people have', () => {
    const { ports, bridges, networks } = scene(one)
    expect(
      ports.map(({ interface: name, domainUuid, peerDomainUuid, bridge, up }) => [
        name,
        domainUuid,
        peerDomainUuid,
        bridge,
        up,
      ]),
    ).toEqual([
      ['en1', 'A1', undefined, 'bridge0', true],
      ['en2', 'A2', 'B2', 'bridge0', true],
      ['en3', 'A3', undefined, 'bridge0', true],
    ])
    expect(bridges).toEqual([{ name: 'bridge0', up: true, addresses: [], members: ['en1', 'en2', 'en3'] }])
    expect(networks).toEqual([{ interface: 'en0', address: '192.168.2.46/24' }])
  })
  test('recorded profiles of a Mac mini with a display, and of both ends of a cable', () => {
    const of = (name: string) =>
      sceneOf({
        ...textsOf(one),
        profile: recordedText(`system_profiler-SPThunderboltDataType/${name}.json`),
      })?.ports.find(({ peerDomainUuid }) => peerDomainUuid !== undefined)
    expect(of('1-macmini-m4pro-macos27-mac-peer')).toMatchObject({ name: 'Thunderbolt 2', interface: 'en2' })
    const [a, b] = [of('4a-m5max-mbp-peer-m3ultra'), of('4b-m3ultra-studio-peer-m5max')]
    expect([a?.domainUuid, a?.peerDomainUuid]).toEqual([b?.peerDomainUuid, b?.domainUuid])
  })
  test('an address of a tunnel counts as a network; 169.254 does not; text of something else is no scene', () => {
    const tunnel =
      'utun4: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1380\n\tinet 10.8.0.2 --> 10.8.0.1 netmask 0xffffff00\n'
    const self = recordedText('ifconfig-bridge0/1-active-link-local-partial.txt')
    const found = sceneOf({ ...textsOf(one), ifconfig: tunnel + self })
    expect(found?.networks).toEqual([{ interface: 'utun4', address: '10.8.0.2/24' }])
    expect(sceneOf({ ...textsOf(one), profile: 'not json' })).toBeUndefined()
    expect(sceneOf({ ...textsOf(one), ifconfig: '' })).toBeUndefined()
  })
})

describe('the plan', () => {
  test('the port leaves the bridge, which is off when nothing else needs it, and gets its address beside others', () => {
    const { steps, record, refusals, cables } = planThunderbolt(inputOf({}))
    expect(steps).toEqual([
      {
        argv: ['ifconfig', 'bridge0', 'deletem', 'en2'],
        why: 'the cable of Thunderbolt 2 to mini-B gets addresses of its own',
      },
      { argv: ['ifconfig', 'bridge0', 'down'], why: 'none of its members leads anywhere' },
      {
        argv: ['ifconfig', 'en2', 'inet', '10.217.3.1', 'netmask', '255.255.255.252', 'alias'],
        why: 'Thunderbolt 2 leads to mini-B (10.217.3.2)',
      },
    ])
    expect(record).toEqual({
      bootId: 'boot-1',
      given: [{ interface: 'en2', address: '10.217.3.1/30' }],
      raised: [],
      bridges: [{ name: 'bridge0', up: true, members: ['en2'], addresses: [] }],
    })
    expect([refusals, cables]).toEqual([[], [toB]])
  })
  test('two cables to one Mac, and a ring of three: each port has its own', () => {
    const two: Cabling = { 1: { own: 'A1', peer: 'B1' }, 2: { own: 'A2', peer: 'B2' }, 3: { own: 'A3' } }
    expect(
      stepsOf({ scene: scene(two), wish: { kind: 'Set', cables: [toB, cable('A1', 'B1', '10.217.9.')] } }),
    ).toEqual([
      'ifconfig bridge0 deletem en2',
      'ifconfig bridge0 deletem en1',
      'ifconfig bridge0 down',
      'ifconfig en2 inet 10.217.3.1 netmask 255.255.255.252 alias',
      'ifconfig en1 inet 10.217.9.1 netmask 255.255.255.252 alias',
    ])
    const ring: Cabling = { ...two, 1: { own: 'A1', peer: 'C1' } }
    expect(
      stepsOf({ scene: scene(ring), wish: { kind: 'Set', cables: [toB, cable('A1', 'C1', '10.217.9.')] } }),
    ).toHaveLength(5)
  })
  test('the bridge stays on for a Mac that is no node, and for a member that is no Thunderbolt', () => {
    const laptop: Cabling = { ...one, 3: { own: 'A3', peer: 'laptop' } }
    expect(stepsOf({ scene: scene(laptop) }).filter((line) => line.endsWith(' down'))).toEqual([])
    const mixed = scene(one)
    const bridges = mixed.bridges.map((bridge) => ({ ...bridge, members: [...bridge.members, 'en4'] }))
    expect(stepsOf({ scene: { ...mixed, bridges } }).filter((line) => line.endsWith(' down'))).toEqual([])
  })
  test('what the server says of another cable than the one that is plugged in waits', () => {
    for (const cabling of [{ 2: { own: 'A2', peer: 'B9' } }, { 2: { own: 'A2' } }, { 2: { own: 'A9', peer: 'B2' } }])
      expect(stepsOf({ scene: scene(cabling) })).toEqual([])
  })
  test('the server is not cut off: a bridge over which it is reached stays as it is', () => {
    const bridged = scene(one)
    const bridges = bridged.bridges.map((bridge) => ({ ...bridge, addresses: ['10.0.0.1/24'] }))
    const over = { scene: { ...bridged, bridges }, ownAddress: '10.0.0.1' }
    const { steps, refusals, record } = planThunderbolt(inputOf(over))
    expect(steps).toEqual([])
    expect(record).toEqual(emptyRecord('boot-1'))
    expect(refusals).toEqual([
      {
        reason: 'ServerOverBridge',
        message: expect.stringMatching(/^Thunderbolt 2 \(en2\) stays in bridge0: .* --server$/) as string,
      },
    ])
    expect(stepsOf({ ...over, ownAddress: ETHERNET })).toHaveLength(3)
  })
  test('a gang that runs over the bridge is not cut: the port is taken out when it has ended', () => {
    const bridged = scene(one)
    const bridges = bridged.bridges.map((bridge) => ({ ...bridge, addresses: ['169.254.80.69/16'] }))
    const running = { scene: { ...bridged, bridges }, inUse: ['169.254.80.69', '169.254.3.1'] }
    const { steps, refusals } = planThunderbolt(inputOf(running))
    expect([steps, refusals]).toEqual([
      [],
      [{ reason: 'GangOverBridge', message: expect.stringContaining('stays in bridge0 while a gang') as string }],
    ])
    expect(stepsOf({ ...running, inUse: ['10.217.9.1'] })).toHaveLength(3)
  })
  test('an address that lies in another network of this Mac is not set', () => {
    const taken = { ...scene(one), networks: [{ interface: 'utun4', address: '10.217.0.9/16' }] }
    const { steps, refusals } = planThunderbolt(inputOf({ scene: taken }))
    expect(steps).toEqual([])
    expect(refusals).toEqual([
      {
        reason: 'AddressTaken',
        message: expect.stringContaining('does not get 10.217.3.1/30: utun4 has 10.217.0.9/16 there') as string,
      },
    ])
  })
  test('one that somebody set already is left alone, and is not ours to take away', () => {
    const own = scene(one)
    const ports = own.ports.map(({ bridge: _, ...port }) =>
      port.interface === 'en2' ? { ...port, addresses: ['10.217.3.1/30'] } : port,
    )
    const set = { ports, bridges: [], networks: [{ interface: 'en2', address: '10.217.3.1/30' }] }
    const { steps, record } = planThunderbolt(inputOf({ scene: set }))
    expect([steps, record]).toEqual([[], emptyRecord('boot-1')])
    expect(stepsOf({ scene: set, record, wish: { kind: 'Undo' } })).toEqual([])
  })
  test('what an earlier boot had set counts for nothing', () => {
    const old: LinkRecord = {
      bootId: 'boot-0',
      given: [{ interface: 'en0', address: '192.168.2.46/24' }],
      raised: ['en3'],
      bridges: [{ name: 'bridge0', up: false, members: ['en3'], addresses: [] }],
    }
    expect(stepsOf({ record: old, wish: { kind: 'Undo' } })).toEqual([])
    expect(planThunderbolt(inputOf({ record: old })).record.bridges).toEqual([
      { name: 'bridge0', up: true, members: ['en2'], addresses: [] },
    ])
  })
})

const macs: FakeMac[] = []
const aMac = (cabling: Cabling = one): FakeMac => {
  const mac = new FakeMac(cabling)
  macs.push(mac)
  return mac
}
afterEach(() => {
  for (const mac of macs.splice(0)) mac.remove()
})

const set = (...cables: NodeCable[]): Intent => ({ wish: { kind: 'Set', cables }, ownAddress: ETHERNET })
const undo: Intent = { wish: { kind: 'Undo' }, ownAddress: ETHERNET }
/** What matters of the state: the order of members does not. */
async function stateOf(mac: FakeMac): Promise<LinkScene | undefined> {
  const [setup = '', ifconfig = '', profile = ''] = await Promise.all([
    mac.doors.runText('networksetup', ['-listallhardwareports']),
    mac.doors.runText('ifconfig', ['-a']),
    mac.doors.runText('system_profiler', ['SPThunderboltDataType', '-json']),
  ])
  const found = sceneOf({ setup, ifconfig, profile })
  return found && { ...found, bridges: found.bridges.map((b) => ({ ...b, members: b.members.toSorted() })) }
}

describe('doing it, on programs that keep what is changed', () => {
  test('set, look: nothing is left to do; undo: as it was at first', async () => {
    const mac = aMac()
    const first = await stateOf(mac)
    expect(await setThunderbolt(mac.doors, set(toB))).toMatchObject({ kind: 'Done', ran: { length: 3 } })
    expect(mac.changes()).toHaveLength(3)
    expect(mac.interface('en2')).toContain('inet 10.217.3.1 netmask 0xfffffffc broadcast 10.217.3.3')
    expect(await stateOf(mac)).toMatchObject({
      bridges: [{ up: false, members: ['en1', 'en3'] }],
      ports: [{}, { interface: 'en2', addresses: ['10.217.3.1/30'] }, {}],
    })
    expect(await setThunderbolt(mac.doors, set(toB))).toMatchObject({ kind: 'Done', ran: [] })
    expect(mac.changes()).toEqual([])
    expect(await setThunderbolt(mac.doors, undo)).toMatchObject({ kind: 'Done', ran: { length: 3 } })
    expect(await stateOf(mac)).toEqual(first)
    expect(mac.doors.record.read()).toBeUndefined()
    expect(await setThunderbolt(mac.doors, undo)).toMatchObject({ kind: 'Done', ran: [] })
  })

  test('what people had set of the bridge, the ports and other addresses is there again', async () => {
    const mac = aMac()
    mac.edit((text) =>
      text
        // The bridge has an address of somebody's, and is off; port 2 is off; port 1 has an address and is out of the bridge.
        .replace(/^(bridge0: flags=)8863<UP,BROADCAST,SMART,RUNNING,/m, '$18822<BROADCAST,SMART,')
        .replace(
          /^\tether 36:00:07:a1:00:00\n\tConfiguration/m,
          '\tinet 10.9.9.1 netmask 0xffffff00 broadcast 10.9.9.255\n$&',
        )
        .replace(/^(en2: flags=)8963<UP,BROADCAST,SMART,RUNNING,/m, '$18922<BROADCAST,SMART,')
        .replace(/^\tmember: en1 .*\n.*\n/m, ''),
    )
    const first = await stateOf(mac)
    expect(first).toMatchObject({ bridges: [{ up: false, addresses: ['10.9.9.1/24'], members: ['en2', 'en3'] }] })
    await setThunderbolt(mac.doors, set(toB))
    expect(mac.changes()).toEqual([
      'ifconfig bridge0 deletem en2',
      'ifconfig en2 up',
      'ifconfig en2 inet 10.217.3.1 netmask 255.255.255.252 alias',
    ])
    // The bridge loses its address meanwhile.
    mac.edit((text) => text.replace(/^\tinet 10\.9\.9\.1 .*\n/m, ''))
    expect(await setThunderbolt(mac.doors, undo)).toMatchObject({ kind: 'Done' })
    expect(await stateOf(mac)).toEqual(first)
  })

  test.each([1, 2, 3])(
    'killed after command %i: the next pass does the rest, and undo still knows all',
    async (count) => {
      const mac = aMac()
      const first = await stateOf(mac)
      let left = count
      const dying: ThunderboltDoors = {
        ...mac.doors,
        change: (argv) => (left-- > 0 ? mac.doors.change(argv) : Promise.reject(new Error('SIGKILL'))),
      }
      await setThunderbolt(dying, set(toB)).catch(() => {})
      expect(await setThunderbolt(mac.doors, set(toB))).toMatchObject({ kind: 'Done', ran: { length: 3 - count } })
      await setThunderbolt(mac.doors, undo)
      expect(await stateOf(mac)).toEqual(first)
    },
  )

  test('killed while undoing: the next undo does the rest', async () => {
    const mac = aMac()
    const first = await stateOf(mac)
    await setThunderbolt(mac.doors, set(toB))
    let left = 1
    const dying: ThunderboltDoors = {
      ...mac.doors,
      change: (argv) => (left-- > 0 ? mac.doors.change(argv) : Promise.reject(new Error('SIGKILL'))),
    }
    await setThunderbolt(dying, undo).catch(() => {})
    expect(await setThunderbolt(mac.doors, undo)).toMatchObject({ kind: 'Done', ran: { length: 2 } })
    expect(await stateOf(mac)).toEqual(first)
  })

  test('a command that fails is told, and done when it can be', async () => {
    const mac = aMac()
    mac.break('netmask')
    expect(await setThunderbolt(mac.doors, set(toB))).toMatchObject({
      kind: 'Failed',
      message:
        'ifconfig en2 inet 10.217.3.1 netmask 255.255.255.252 alias exited with 1: ifconfig: ioctl (SIOCAIFADDR): permission denied',
    })
    mac.break('')
    expect(await setThunderbolt(mac.doors, set(toB))).toMatchObject({ kind: 'Done', ran: { length: 1 } })
  })

  test('what does not hold is told: a port that macOS takes back into its bridge at once', async () => {
    const mac = aMac()
    const stubborn: ThunderboltDoors = {
      ...mac.doors,
      change: (argv) => (argv.includes('deletem') ? Promise.resolve({ code: 0, output: '' }) : mac.doors.change(argv)),
    }
    expect(await setThunderbolt(stubborn, set(toB))).toMatchObject({
      kind: 'Failed',
      message: 'ifconfig bridge0 deletem en2 was carried out, but did not hold',
    })
    // Taken back later, it is taken out again.
    await setThunderbolt(mac.doors, set(toB))
    mac.changes()
    await mac.doors.change(['ifconfig', 'bridge0', 'addm', 'en2'])
    mac.changes()
    await setThunderbolt(mac.doors, set(toB))
    expect(mac.changes()).toEqual(['ifconfig bridge0 deletem en2'])
  })

  test('a cable that is moved takes its address along, one that is gone leaves none behind', async () => {
    const mac = aMac()
    await setThunderbolt(mac.doors, set(toB))
    mac.changes()
    mac.plug({ 1: { own: 'A1', peer: 'B2' }, 2: { own: 'A2' }, 3: { own: 'A3' } })
    await setThunderbolt(mac.doors, set(cable('A1', 'B2', '10.217.3.')))
    expect(mac.changes()).toEqual([
      'ifconfig en2 inet 10.217.3.1 -alias',
      'ifconfig bridge0 deletem en1',
      'ifconfig en1 inet 10.217.3.1 netmask 255.255.255.252 alias',
    ])
    mac.plug({ 1: { own: 'A1' }, 2: { own: 'A2' }, 3: { own: 'A3' } })
    await setThunderbolt(mac.doors, set())
    expect(mac.changes()).toEqual(['ifconfig en1 inet 10.217.3.1 -alias'])
    await setThunderbolt(mac.doors, undo)
    expect(await stateOf(mac)).toMatchObject({
      bridges: [{ up: true, members: ['en1', 'en2', 'en3'] }],
      networks: [{ interface: 'en0' }],
    })
  })

  test('after a reboot all is set anew, under the names that the ports have now', async () => {
    const mac = aMac()
    await setThunderbolt(mac.doors, set(toB))
    mac.changes()
    const swapped = (setup: string) =>
      setup.replace(/(Thunderbolt 2\nDevice: )en2/, '$1en3').replace(/(Thunderbolt 3\nDevice: )en3/, '$1en2')
    mac.reboot({ 1: { own: 'N1' }, 2: { own: 'N2', peer: 'B2' }, 3: { own: 'N3' } }, swapped)
    // The server has not heard of the new UUIDs yet.
    await setThunderbolt(mac.doors, set(toB))
    expect(mac.changes()).toEqual([])
    await setThunderbolt(mac.doors, set(cable('N2', 'B2', '10.217.3.')))
    expect(mac.changes()).toEqual([
      'ifconfig bridge0 deletem en3',
      'ifconfig bridge0 down',
      'ifconfig en3 inet 10.217.3.1 netmask 255.255.255.252 alias',
    ])
    await setThunderbolt(mac.doors, undo)
    expect(await stateOf(mac)).toMatchObject({ bridges: [{ up: true, members: ['en1', 'en2', 'en3'] }] })
  })

  test('looking changes nothing, and a Mac that cannot be read is left alone', async () => {
    const mac = aMac()
    expect((await lookAtThunderbolt(mac.doors, set(toB)))?.steps).toHaveLength(3)
    expect([mac.changes(), mac.doors.record.read()]).toEqual([[], undefined])
    const blind: ThunderboltDoors = { ...mac.doors, runText: () => Promise.resolve(undefined) }
    expect(await setThunderbolt(blind, set(toB))).toMatchObject({ kind: 'Unreadable' })
    expect(mac.changes()).toEqual([])
  })
})

describe('an agent that was asked', () => {
  /** A keeper of the Mac's addresses; the server says what `cables` holds. */
  function kept(mac: FakeMac) {
    const clock = new VirtualClock()
    const over = new AbortController()
    const server: { cables: readonly NodeCable[] | undefined; inUse: readonly string[] | undefined } = {
      cables: undefined,
      inUse: [],
    }
    const keeper = new ThunderboltKeeper({
      doors: mac.doors,
      cables: () => Promise.resolve(server.cables),
      ownAddress: ETHERNET,
      inUse: () => server.inUse,
      interfaces: () => ({}),
      clock,
      log: silentLogger,
    })
    const running = keeper.run(over.signal)
    return {
      server,
      keeper,
      /** Time passes until the Node says so. */
      async says(reason: string, message = '') {
        const isSaid = () => keeper.condition().reason === reason && keeper.condition().message.includes(message)
        await until(
          async () => {
            if (!isSaid()) await clock.advance(10_000)
            return isSaid()
          },
          20_000,
          `${reason} ${message}`,
        )
        return keeper.condition().status
      },
      async passesFor(ms: number) {
        for (let passed = 0; passed < ms; passed += 10_000) {
          await clock.advance(10_000)
          await new Promise((resolve) => setTimeout(resolve, 30))
        }
      },
      async end() {
        over.abort()
        await running
      },
    }
  }

  test('waits for the server, sets what it gives, and keeps it when the server is away', async () => {
    const mac = aMac()
    const { server, says, passesFor, end } = kept(mac)
    expect(await says('WaitingForServer')).toBe('Unknown')
    expect(mac.changes()).toEqual([])
    server.cables = [toB]
    expect(await says('ThunderboltSet', 'set: 10.217.3.1/30 towards mini-B')).toBe('False')
    expect(mac.changes()).toHaveLength(3)
    server.cables = undefined
    // macOS takes the port back: it is seen within a minute.
    await mac.doors.change(['ifconfig', 'bridge0', 'addm', 'en2'])
    mac.changes()
    await until(
      async () => {
        await passesFor(70_000)
        return mac.changes().includes('ifconfig bridge0 deletem en2')
      },
      20_000,
      'the port is taken out again',
    )
    await end()
    expect(mac.interface('en2')).toContain('10.217.3.1')
  })

  test('looks when there is a reason, tries what failed again soon, and else looks once a minute', async () => {
    const mac = aMac()
    const texts = textsOf(one)
    const seen = {
      looks: 0,
      tries: 0,
      interfaces: {},
      cables: [toB] as readonly NodeCable[],
      inUse: undefined as string[] | undefined,
    }
    const clock = new VirtualClock()
    const over = new AbortController()
    const keeper = new ThunderboltKeeper({
      doors: {
        runText: (command) => {
          if (command === 'networksetup') seen.looks += 1
          const text = { networksetup: texts.setup, ifconfig: texts.ifconfig, system_profiler: texts.profile }[command]
          return Promise.resolve(text)
        },
        change: () => Promise.resolve({ code: 1, output: `try ${(seen.tries += 1)}` }),
        record: mac.doors.record,
      },
      cables: () => Promise.resolve(seen.cables),
      ownAddress: ETHERNET,
      inUse: () => seen.inUse,
      interfaces: () => seen.interfaces,
      clock,
      log: silentLogger,
    })
    void keeper.run(over.signal)
    // Which gangs were here before is not known yet.
    await clock.advance(20_000)
    expect(seen.looks).toBe(0)
    seen.inUse = []
    await clock.advance(10_000)
    expect(seen).toMatchObject({ looks: 1, tries: 1 })
    await clock.advance(20_000)
    expect(seen).toMatchObject({ looks: 3, tries: 3 })
    // Nothing to do: no look before the minute is over.
    seen.cables = []
    await clock.advance(10_000)
    expect(seen.looks).toBe(4)
    await clock.advance(50_000)
    expect(seen.looks).toBe(4)
    await clock.advance(10_000)
    expect(seen.looks).toBe(5)
    // An address of this machine changed.
    seen.interfaces = { en5: [] }
    await clock.advance(10_000)
    expect(seen).toMatchObject({ looks: 6, tries: 3 })
    over.abort()
  })

  test('says what is in the way, and stops saying it', async () => {
    const mac = aMac()
    const { server, says, end } = kept(mac)
    mac.break('deletem')
    server.cables = [toB]
    expect(await says('CommandFailed', 'permission denied; it is tried again')).toBe('True')
    mac.break('')
    expect(await says('ThunderboltSet')).toBe('False')
    server.cables = [cable('A2', 'B2', '192.168.2.4')]
    expect(await says('AddressTaken', 'en0 has 192.168.2.46/24 there')).toBe('True')
    server.cables = []
    expect(await says('ThunderboltSet', 'no cable leads to another node')).toBe('False')
    await end()
  })
})

describe('asked for by a person', () => {
  test('a dry run says the commands and changes nothing; undoing says what it did', async () => {
    const mac = aMac()
    expect((await reportSetting(mac.doors, [toB], ETHERNET)).steps).toHaveLength(3)
    expect((await undoThunderbolt(mac.doors, false)).steps).toEqual([])
    await setThunderbolt(mac.doors, set(toB))
    mac.changes()
    expect((await undoThunderbolt(mac.doors, true)).steps).toHaveLength(3)
    expect(mac.changes()).toEqual([])
    mac.break('addm')
    await expect(undoThunderbolt(mac.doors, false)).rejects.toThrow(
      /addm en2 exited with 1: .* restart of this Mac undoes it, too/,
    )
    mac.break('')
    expect((await undoThunderbolt(mac.doors, false)).steps).toHaveLength(2)
  })
  test('only on macOS, and only by root', () => {
    expect(() => checkThunderbolt({ platform: 'linux', isRoot: true }, true)).toThrow(/that is for macOS\. Here, give/)
    expect(() => checkThunderbolt({ platform: 'darwin', isRoot: false }, false)).toThrow(
      /only root may\. .* --dry-run$/,
    )
    expect(() => checkThunderbolt({ platform: 'darwin', isRoot: false }, true)).not.toThrow()
  })
})
