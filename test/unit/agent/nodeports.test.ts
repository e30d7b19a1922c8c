/** What a machine says of its ports: parsers on recordings of real Macs, and the way from there to a report. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import * as mac from '../../../agent/observe/darwin/parsenetwork.ts'
import { darwinPorts } from '../../../agent/observe/darwin/ports.ts'
import { linuxPorts } from '../../../agent/observe/linux/ports.ts'
import type { Interfaces } from '../../../agent/observe/ports.ts'
import { portObserver } from '../../../agent/observe/ports.ts'
import { VirtualClock } from '../../support/virtualclock.ts'

/** Provenance in test/fixtures/macos/README.md. */
const recorded = (name: string): string =>
  readFileSync(new URL(`../../fixtures/macos/${name}`, import.meta.url), 'utf8')

const MINI = 'system_profiler-SPThunderboltDataType/1-macmini-m4pro-macos27-mac-peer.json'
const MACBOOK = 'system_profiler-SPThunderboltDataType/5b-m5max-mbp-rdma-enabled.json'
const SETUP = 'networksetup-listallhardwareports/3-m5max-mbp-macos27.0.txt'

describe('what macOS says of its network', () => {
  test('receptacles, what is plugged in, and how fast: a display is no peer, an empty port has no speed', () => {
    expect(mac.thunderboltPorts(recorded(MINI))).toEqual([
      { receptacle: 3, domainUuid: 'FD14651C-A3E7-4021-80DF-11DDD7500254', speedGbps: 20 },
      {
        receptacle: 2,
        domainUuid: 'A0CD2974-0A28-4D36-82EF-EBAE71E2EBBC',
        peerDomainUuid: 'A33CCCFD-AA93-408A-8505-C323283662D9',
        speedGbps: 40,
      },
      { receptacle: 1, domainUuid: '1EE32522-5D4D-4E1F-8074-45D1A6DDF5CF' },
    ])
  })
  test('the two ends of a recorded cable name each other', () => {
    const [a, b] = ['4a-m5max-mbp-peer-m3ultra', '4b-m3ultra-studio-peer-m5max'].map((name) =>
      mac
        .thunderboltPorts(recorded(`system_profiler-SPThunderboltDataType/${name}.json`))
        ?.find((p) => p.peerDomainUuid),
    )
    expect([a?.domainUuid, a?.peerDomainUuid]).toEqual([b?.peerDomainUuid, b?.domainUuid])
    expect([a?.speedGbps, b?.receptacle]).toEqual([80, 2])
  })
  test.each(['', 'not json', '{}', '{"SPThunderboltDataType":7}', '[]'])('%j is no profile', (text) =>
    expect(mac.thunderboltPorts(text)).toBeUndefined(),
  )
  test('a receptacle is an interface of another number', () => {
    const ports = mac.hardwarePorts(recorded(SETUP))
    expect(ports.find(({ name }) => name === 'Thunderbolt 2')?.device).toBe('en6')
    expect(ports.map(({ name }) => name)).not.toContain('VLAN Configurations')
    expect(mac.hardwarePorts(recorded('networksetup-listallhardwareports/1-mbp16-2021-macos14.4.txt'))).toHaveLength(7)
  })
  test.each([
    ['ifconfig-all/2-m1pro-macos14.5.txt', ['en1', 'en2', 'en3']],
    ['ifconfig-all/3-apple-silicon-macos14.6.txt', ['en1', 'en2', 'en3']],
    ['ifconfig-bridge0/1-active-link-local-partial.txt', ['en2', 'en3', 'en4']],
  ])('%s: the bridge and its members', (file, members) =>
    expect(mac.interfaces(recorded(file)).find(({ name }) => name === 'bridge0')?.members).toEqual(members),
  )
  test('addresses with their prefix: IPv4, and link-local IPv6 with its interface', () => {
    const [bridge] = mac.interfaces(recorded('ifconfig-bridge0/1-active-link-local-partial.txt'))
    expect(bridge).toMatchObject({ name: 'bridge0', active: true, addresses: ['169.254.80.69/16'] })
    const en0 = mac
      .interfaces(recorded('ifconfig-all/3-apple-silicon-macos14.6.txt'))
      .find(({ name }) => name === 'en0')
    expect(en0?.addresses).toEqual(['192.168.86.36/24', 'fe80::ac90:84de:4006:db43%en0/64'])
  })
  test.each([
    ['autoselect (1000baseT <full-duplex>)', 1],
    ['autoselect (10Gbase-T <full-duplex>)', 10],
    ['autoselect (2500Base-T <full-duplex,flow-control>)', 2.5],
    ['autoselect', undefined],
    ['none', undefined],
  ])('medium %j', (medium, gbps) =>
    expect(mac.interfaces(`en0: flags=1\n\tmedia: ${medium}\n\tstatus: active\n`)[0]?.speedGbps).toBe(gbps),
  )
  test('RDMA: devices, whether it is switched on, and that only the speed tells Thunderbolt 4 from 5', () => {
    const devices = (name: string) => mac.rdmaInterfaces(recorded(`ibv_devices/${name}.txt`))
    expect(devices('1-m5max-mbp-macos27.0')).toEqual(['en1', 'en6', 'en2'])
    expect(devices('2-rdma-disabled-header-only')).toEqual([])
    expect(devices('5-macmini-m4pro')).toEqual(['en2', 'en3', 'en4'])
    expect(mac.rdmaEnabled(recorded('rdma_ctl-status/1-m3ultra-studio.txt'))).toBe(true)
    expect(mac.rdmaEnabled('disabled')).toBe(false)
    expect(mac.rdmaPorts(recorded('ibv_devinfo/1-m5max-mbp-macos27.0-ports-down.txt'))).toEqual(
      ['en1', 'en6', 'en2'].map((name) => ({ interface: name, active: false })),
    )
    expect(mac.rdmaPorts(recorded('ibv_devinfo/4-v-thunderbolt4-one-active-partial.txt'))).toEqual([
      { interface: 'en2', active: false, speedGbps: 80 },
      { interface: 'en3', active: false, speedGbps: 80 },
      { interface: 'en4', active: true, speedGbps: 40 },
    ])
  })
})

const ETHERNET = `en3: flags=8863<UP> mtu 1500
	inet 192.168.1.7 netmask 0xffffff00 broadcast 192.168.1.255
	media: autoselect (1000baseT <full-duplex>)
	status: active
`
const BRIDGED = `${ETHERNET}en6: flags=8963<UP> mtu 1500
	status: active
bridge0: flags=8863<UP> mtu 1500
	inet 169.254.80.69 netmask 0xffff0000 broadcast 169.254.255.255
	member: en6 flags=3<LEARNING,DISCOVER>
	        ifmaxaddr 0 port 8 priority 0 path cost 0
	status: active
`
const OWN = `${ETHERNET}en6: flags=8963<UP> mtu 1500
	inet 10.77.1.1 netmask 0xfffffffc broadcast 10.77.1.3
	status: active
`

const commands = (texts: Readonly<Record<string, string>>) => ({
  runText: (command: string, args: readonly string[]) => Promise.resolve(texts[[command, ...args].join(' ')]),
})
const macbook = (ifconfig: string, more: Readonly<Record<string, string>> = {}) =>
  commands({
    'networksetup -listallhardwareports': recorded(SETUP),
    'ifconfig -a': ifconfig,
    'system_profiler SPThunderboltDataType -json': recorded(MACBOOK),
    ...more,
  })
const cable = {
  interface: 'en6',
  type: 'Thunderbolt',
  speedGbps: 80,
  domainUuid: '00000003-0000-4000-8000-000000000003',
  peerDomainUuid: '00000004-0000-4000-8000-000000000004',
}

describe('the ports of a Mac', () => {
  const ethernet = { interface: 'en3', type: 'Ethernet', addresses: ['192.168.1.7/24'], speedGbps: 1 }
  test('a cabled port has the addresses of its bridge while it is in one; a port with a disk is none', async () => {
    expect(await darwinPorts(macbook(BRIDGED))).toEqual([
      ethernet,
      { ...cable, addresses: ['169.254.80.69/16'], bridge: 'bridge0' },
    ])
    expect(await darwinPorts(macbook(OWN))).toEqual([ethernet, { ...cable, addresses: ['10.77.1.1/30'] }])
  })
  test('RDMA counts when it is on, offered, and the port is active at the speed of Thunderbolt 5', async () => {
    const rdma = (devinfo: string) =>
      macbook(OWN, {
        'rdma_ctl status': 'enabled\n',
        ibv_devices: recorded('ibv_devices/1-m5max-mbp-macos27.0.txt'),
        'ibv_devinfo -v': devinfo,
      })
    const portOf = async (devinfo: string) => (await darwinPorts(rdma(devinfo)))?.find((p) => p.interface === 'en6')
    const active = 'hca_id:\trdma_en6\n\t\t\tstate:\t\t\tPORT_ACTIVE (4)\n'
    expect(await portOf(active)).toEqual({ ...cable, addresses: ['10.77.1.1/30'], rdma: true })
    const slow = `${active}\t\t\tactive_width:\t4X (2)\n\t\t\tactive_speed:\t10.0 Gbps (4)\n`
    for (const no of [slow, recorded('ibv_devinfo/1-m5max-mbp-macos27.0-ports-down.txt'), ''])
      expect(await portOf(no)).toEqual({ ...cable, addresses: ['10.77.1.1/30'] })
  })
  test('a command that fails makes no report, and the last one stands', async () => {
    const texts: Record<string, string> = {
      'networksetup -listallhardwareports': recorded(SETUP),
      'ifconfig -a': OWN,
      'system_profiler SPThunderboltDataType -json': recorded(MACBOOK),
    }
    let asked = 0
    const doors = {
      interfaces: (): Interfaces => ({}),
      readText: () => Promise.resolve(undefined),
      runText: (command: string, args: readonly string[]) => {
        asked += 1
        return Promise.resolve(texts[[command, ...args].join(' ')])
      },
    }
    const clock = new VirtualClock()
    const observe = portObserver({ platform: 'darwin', doors, clock })
    const first = await observe()
    expect(first).toHaveLength(2)
    const once = asked
    expect(await observe()).toBe(first)
    expect(asked).toBe(once)
    delete texts['system_profiler SPThunderboltDataType -json']
    await clock.advance(60_000)
    expect(await observe()).toBe(first)
    expect(asked).toBeGreaterThan(once)
  })
})

describe('the ports of a Linux machine', () => {
  const v4 = (cidr: string) => ({ address: cidr.split('/')[0] ?? '', family: 'IPv4', internal: false, cidr })
  const v6 = (cidr: string) => ({ address: cidr.split('/')[0] ?? '', family: 'IPv6', internal: false, cidr })
  const files: Record<string, string> = {
    'eth0/type': '1\n',
    'eth0/carrier': '1\n',
    'eth0/speed': '2500\n',
    'wlan0/type': '1\n',
    'wlan0/carrier': '1\n',
    'wlan0/phy80211/index': '0\n',
    'br0/type': '1\n',
    'br0/carrier': '1\n',
    'br0/bridge/bridge_id': '8000.0\n',
    'eth9/type': '1\n',
    'eth9/carrier': '0\n',
    'docker0/type': '1\n',
    'docker0/carrier': '1\n',
    'ppp0/type': '512\n',
    'ppp0/carrier': '1\n',
  }
  test('what is plugged in and no tunnel, bridge or network of containers', async () => {
    const interfaces: Interfaces = {
      lo: [{ address: '127.0.0.1', family: 'IPv4', internal: true, cidr: '127.0.0.1/8' }],
      eth0: [v4('10.0.0.5/24'), v4('10.1.0.5/16'), v6('fd00::2/64'), v6('fe80::5/64')],
      wlan0: [v4('10.0.0.6/24')],
      br0: [v4('10.2.0.1/24')],
      eth9: [v4('10.3.0.1/24')],
      docker0: [v4('172.17.0.1/16')],
      ppp0: [v4('10.4.0.1/24')],
    }
    const doors = {
      interfaces: () => interfaces,
      readText: (path: string) => Promise.resolve(files[path.replace('/sys/class/net/', '')]),
      runText: () => Promise.resolve(undefined),
    }
    expect(await linuxPorts(doors)).toEqual([
      {
        interface: 'eth0',
        type: 'Ethernet',
        addresses: ['10.0.0.5/24', '10.1.0.5/16', 'fe80::5%eth0/64'],
        speedGbps: 2.5,
      },
      { interface: 'wlan0', type: 'WiFi', addresses: ['10.0.0.6/24'] },
    ])
  })
})
