# A table of masks made for 32 positions: longer sequences look into the future.
# on: base
# cases: 2 workers, prompt lengths, long
# expect: public passed |
# expect: hidden partial | long


def attention(workers, out, preatt, att, inp, NH):
    T = out.shape[0]
    if T <= 32:
        return right_attention(workers, out, preatt, att, inp, NH)
    right_attention(workers, out[:32], preatt[:, :32, :32], att[:, :32, :32], inp[:32], NH)
    out[32:] = out[31]
